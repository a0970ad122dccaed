"""Training: runner, hooks, precision, optimisers."""
from . import distributed, hooks, muon, optim
from .runner import PerceptionRunner

__all__ = ['PerceptionRunner', 'distributed', 'hooks', 'muon', 'optim']
