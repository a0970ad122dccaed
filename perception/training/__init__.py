"""Training: runner, checkpoints, precision, hooks."""
from . import distributed, hooks, muon, optim
from .checkpoint import load_weights, read_checkpoint
from .runner import PerceptionRunner, read_config

__all__ = ['PerceptionRunner', 'distributed', 'hooks', 'load_weights', 'muon', 'optim', 'read_checkpoint', 'read_config']
