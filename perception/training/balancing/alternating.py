"""TurboTrain's alternation: free steps, and steps in which conflicts are suppressed."""
from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from ...registry import BALANCERS
from .base import LayeredBalancer, Step, build_balancer, check_range


@BALANCERS.register_module()
class Alternating(LayeredBalancer):
    """Every n-th step by another balancer, the plain sum between.

    TurboTrain: Zhou et al. 2025, arXiv 2508.04682, in our reading (no code is published): free gradient steps
    and conflict-suppressing steps in turn, the latter by PCGrad's projection.

    Args:
        base: the balancer of every n-th step.
        every: n.
    """

    def __init__(self, base: Mapping[str, Any] | None = None, every: int = 2) -> None:
        super().__init__()
        self.every = int(check_range('Alternating.every', 1, every))
        self.base = build_balancer(base or dict(type='PCGrad', where='parameters'))
        self.least_tasks, self.uses_map = self.base.least_tasks, self.base.uses_map

    def around_forward(self) -> AbstractContextManager[None]:
        """As the base's."""
        return self.base.around_forward()

    def train(self, step: Step) -> None:
        """The base's step, or a free one."""
        if (step.losses.place.step + 1) % self.every == 0:
            self.base.train(step)
        else:
            step.backward(step.losses.weighted([1.0] * len(self.tasks)))
