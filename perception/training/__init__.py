"""Training: runner, hooks, precision, optimisers."""
from . import distributed, hooks, muon, optim
from .runner import PerceptionRunner
from .state import loops, writing

__all__ = ['PerceptionRunner', 'distributed', 'hooks', 'loops', 'muon', 'optim', 'writing']
