"""Training: runner, checkpoints, precision, hooks."""
from . import distributed, hooks, optim
from .checkpoint import load_weights, read_checkpoint
from .runner import PerceptionRunner, read_config

__all__ = ['PerceptionRunner', 'distributed', 'hooks', 'load_weights', 'optim', 'read_checkpoint', 'read_config']
