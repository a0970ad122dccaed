"""Training: runner, checkpoints, precision, hooks."""
from . import hooks, optim
from .checkpoint import load_weights, read_checkpoint
from .runner import PerceptionRunner, read_config

__all__ = ['PerceptionRunner', 'hooks', 'load_weights', 'optim', 'read_checkpoint', 'read_config']
