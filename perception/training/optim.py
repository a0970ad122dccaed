"""Mixed precision on CPUs and GPUs alike, and a guard that keeps a bad gradient from spoiling the weights."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.device import get_device
from mmengine.logging import MessageHub, print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..registry import OPTIM_WRAPPERS
from .precision import autocast_dtype


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper with autocast on any device and non-finite gradients left out.

    Args:
        dtype: 'float32' (no autocast), 'bfloat16' (CPU or GPU), 'float16' (GPU; losses are scaled) or 'auto':
            bfloat16 where it is computed, else float16 on a GPU and float32 on a CPU.
        max_skipped: updates in a row that may be left out before training stops.

    Raises:
        ValueError: unknown dtype, or float16 without a GPU.
        FloatingPointError: too many bad gradients in a row.
    """

    def __init__(
        self, *args: object, dtype: str = 'float32', max_skipped: int = 10, **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)
        self.device_type = get_device().split(':')[0]
        self.cast_to = autocast_dtype(dtype, self.device_type)
        # float16 has few exponents: its losses are scaled
        scaled = self.cast_to == torch.float16
        self.scaler = torch.amp.GradScaler(self.device_type) if scaled else None

        self.max_skipped = max_skipped
        self.skipped = 0
        self.skipped_in_a_row = 0

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass."""
        cast = torch.autocast(self.device_type, self.cast_to) if self.cast_to else nullcontext()
        with super().optim_context(model), cast:
            yield

    def backward(self, loss: Tensor, **kwargs: object) -> None:
        """Backward of the (scaled) loss."""
        (self.scaler.scale(loss) if self.scaler else loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: object) -> None:
        """Clip and update; an update with a non-finite gradient is left out, counted and logged.

        On several processes every process sees the same summed gradient, so all of them decide alike.
        """
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = self._gradient_norm()
        # with a scaler, it is the scaler that leaves updates out
        if not torch.isfinite(norm) and not self.scaler:
            self._leave_out()
            return

        if self.clip_grad_kwargs:
            self._clip_grad()
        if self.scaler:
            self.scaler.step(self.optimizer, **kwargs)
            self.scaler.update()
        else:
            self.optimizer.step(**kwargs)
        self.skipped_in_a_row = 0
        MessageHub.get_current_instance().update_scalar('train/gradient_norm', float(norm))

    def _gradient_norm(self) -> Tensor:
        gradients = [p.grad for group in self.param_groups for p in group['params'] if p.grad is not None]
        if hasattr(torch.nn.utils, 'get_total_norm'):
            return torch.nn.utils.get_total_norm(gradients)
        return torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients]))

    def _leave_out(self) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        print_log(
            f'update left out: the gradient is not finite ({self.skipped_in_a_row} in a row, {self.skipped} '
            'in all)', 'current', level=30)
        if self.skipped_in_a_row > self.max_skipped:
            raise FloatingPointError(
                f'{self.skipped_in_a_row} updates in a row had a non-finite gradient: training stopped'
            )

    def state_dict(self) -> dict:
        """State of the optimiser and of the loss scaler."""
        state = super().state_dict()
        return state | {'loss_scaler': self.scaler.state_dict()} if self.scaler else state

    def load_state_dict(self, state_dict: dict) -> None:
        """Inverse of `state_dict`."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        if self.scaler and scaler:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
