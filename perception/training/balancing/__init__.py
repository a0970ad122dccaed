"""Balancing tasks: task losses of a step -> their weights, or the gradient that the step takes.

A configuration names one: `balancer = dict(type='GradNorm', alpha=1.5)`. How to choose: docs/multi_task.md.
"""
from . import alternating, flat, from_losses, gramian, norms, rep_mtl, sparse, whole
from .base import Balancer, build_balancer
from .step import BalancedTraining, balanced_training

__all__ = [
    'BalancedTraining', 'Balancer', 'alternating', 'balanced_training', 'build_balancer', 'flat',
    'from_losses', 'gramian', 'norms', 'rep_mtl', 'sparse', 'whole']
