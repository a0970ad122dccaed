"""Mixed precision on CPUs and GPUs alike, and a guard that keeps a bad gradient from spoiling the weights."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.device import get_device
from mmengine.logging import MessageHub, print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..core.processes import process_count, summed
from ..registry import OPTIM_WRAPPERS
from .precision import autocast_dtype


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper with autocast on any device; what is not finite is left out.

    A step whose gradient, or whose batch statistics, are not finite changes nothing: the weights stay, and
    the buffers (running means of norms) are what they were before its forward. Where losses are scaled the
    scale is halved then: one that is too large at first costs a few updates, ten in a row are no accident.

    Args:
        dtype: 'float32' (no autocast), 'bfloat16' (CPU or GPU), 'float16' (GPU; losses are scaled) or 'auto':
            bfloat16 where it is computed, else float16 on a GPU and float32 on a CPU.
        max_skipped: updates in a row that may be left out before training stops.

    Raises:
        ValueError: unknown dtype, or float16 without a GPU.
        FloatingPointError: too many updates in a row left out.
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
        self._buffers: dict[str, Tensor] = {}
        self._before: list[Tensor] = []
        self._remembered = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass."""
        self._remember(model)
        cast = torch.autocast(self.device_type, self.cast_to) if self.cast_to else nullcontext()
        with super().optim_context(model), cast:
            yield

    def backward(self, loss: Tensor, **kwargs: object) -> None:
        """Backward of the (scaled) loss."""
        (self.scaler.scale(loss) if self.scaler else loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: object) -> None:
        """Clip and update; an update that is not finite is left out, counted and logged.

        On several processes every process sees the same summed gradient and how many have bad buffers, so all
        of them decide alike.
        """
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = self._gradient_norm()
        bad_buffers = self._bad_buffers(norm.device)
        bad_gradient = ~torch.isfinite(norm)
        if bool(bad_gradient | (bad_buffers > 0)):
            self._leave_out('the gradient' if bool(bad_gradient) else self._name_bad_buffer())
            return
        self._remembered = False

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

    def _remember(self, model: nn.Module) -> None:
        """Keep the buffers as they are before the first batch of an update."""
        if not self._buffers:
            kept = model.state_dict(keep_vars=True)
            self._buffers = {name: buffer for name, buffer in model.named_buffers() if name in kept}
            self._before = [buffer.clone() for buffer in self._buffers.values()]
        if not self._remembered:
            for old, buffer in zip(self._before, self._buffers.values(), strict=True):
                old.copy_(buffer)
            self._remembered = True

    def _bad_buffers(self, device: torch.device) -> Tensor:
        """How many processes have a buffer that is not finite."""
        buffers = [b for b in self._buffers.values() if b.is_floating_point() and b.numel()]
        bad = torch.zeros((), device=device)
        if buffers:
            # not a number and infinite both show in the largest value
            largest = torch.stack([norm.to(bad) for norm in torch._foreach_norm(buffers, float('inf'))])
            bad = torch.isfinite(largest).all().logical_not().float()
        return summed(bad) if process_count() > 1 else bad

    def _name_bad_buffer(self) -> str:
        bad = [name for name, buffer in self._buffers.items() if not torch.isfinite(buffer).all()]
        return f'the buffer {bad[0]}' if bad else 'a buffer of another process'

    def _leave_out(self, what: str) -> None:
        """Forget the step: buffers as before its forward, weights as they are."""
        with torch.no_grad():
            for old, buffer in zip(self._before, self._buffers.values(), strict=True):
                buffer.copy_(old)
        self._remembered = False
        if self.scaler:
            self.scaler.update()

        self.skipped += 1
        self.skipped_in_a_row += 1
        print_log(
            f'update left out: {what} is not finite ({self.skipped_in_a_row} in a row, {self.skipped} in '
            'all)', 'current', level=30)
        if self.skipped_in_a_row > self.max_skipped:
            raise FloatingPointError(
                f'{self.skipped_in_a_row} updates in a row were not finite, the last by {what}: training '
                'stopped'
            )

    def state_dict(self) -> dict:
        """State of the optimiser, of the loss scaler, and how many updates were left out."""
        state = super().state_dict() | {'left_out': [self.skipped, self.skipped_in_a_row]}
        return state | {'loss_scaler': self.scaler.state_dict()} if self.scaler else state

    def load_state_dict(self, state_dict: dict) -> None:
        """Inverse of `state_dict`."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        self.skipped, self.skipped_in_a_row = state_dict.pop('left_out', (0, 0))
        if self.scaler and scaler:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
