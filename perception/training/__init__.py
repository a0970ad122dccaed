"""Training: runner, hooks, precision, optimisers."""
from . import balancing, distributed, hooks, muon, optim, page
from .runner import PerceptionRunner
from .state import loops, writing

__all__ = [
    'PerceptionRunner', 'balancing', 'distributed', 'hooks', 'loops', 'muon', 'optim', 'page', 'writing']
