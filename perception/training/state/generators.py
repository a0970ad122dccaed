"""The random generators of this process: states as plain values, validation that leaves them alone."""
from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS


def generator_states() -> dict[str, Any]:
    """States of torch (CPU, this process's GPU), numpy and Python, as `read_checkpoint` reads them back."""
    kind, keys, *rest = np.random.get_state()
    return {
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        'numpy': [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        'python': random.getstate(),
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Inverse of `generator_states`; a GPU's state is left out on a machine without one, and the reverse."""
    torch.set_rng_state(states['torch'].cpu())
    if states['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())

    kind, keys, *rest = states['numpy']
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers), gauss))


@HOOKS.register_module()
class UndisturbedHook(Hook):
    """Validation draws no random numbers from those of the training: it may come any time, or never.

    The runner adds it on its own.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._states: dict[str, Any] = {}

    def before_val(self, runner: Runner) -> None:
        """Keep the states."""
        self._states = generator_states()

    def after_val(self, runner: Runner) -> None:
        """Put them back."""
        restore_generators(self._states)
