"""Loss and backward at full size on `meta`: wrong devices raise, operations and memory add up."""
from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from ...core.contracts import Annotations, Batch
from ...model import MultiTaskPerception
from ...registry import MODELS, without_pretrained
from .values import ValuesAside, autocast_passes_meta

GIB = 2 ** 30


@dataclass(frozen=True)
class StepCost:
    """What a training step of a batch needs.

    Attributes:
        parameters: of the model.
        forward_tflop: products, convolutions and attention, a multiply-add as two, up to the losses.
        backward_tflop: of the backward, with what is computed again in it.
        peak_gib: of all that the step makes and holds at one moment, float32: activations, gradients of
            activations and of weights. Weights, optimiser, and libraries' own workspace come on top.
        losses: names of the terms.
    """

    parameters: int
    forward_tflop: float
    backward_tflop: float
    peak_gib: float
    losses: tuple[str, ...]

    @property
    def state_gib(self) -> float:
        """Weights and the two averages of AdamW, float32."""
        return 12 * self.parameters / GIB


class StepCounter:
    """Adds up operations, and the bytes that are alive."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        self.flop = 0
        self.live = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}
        # what was there before costs nothing; kept, so that nothing else gets its number
        self._before = {id(part): part for part in (tensor.untyped_storage() for tensor in known)}

    def seen(self, func: Any, args: tuple, kwargs: Mapping[str, Any], result: Any) -> None:
        """Count one operation."""
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flop += count(*args, **kwargs, out_val=result)

        for part in tree_flatten(result)[0]:
            if isinstance(part, Tensor) and part.is_meta:
                self._note(part.untyped_storage())
        self.peak = max(self.peak, self.live)

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()  # torch keeps one object for a storage while that lives
        if key in self._alive or key in self._before:
            return

        def gone(_: Any) -> None:
            self.live -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, gone)
        self.live += size


def build_on_meta(model: Mapping[str, Any]) -> MultiTaskPerception:
    """A configuration's model, in training, without values."""
    with torch.device('meta'):
        built = MODELS.build(without_pretrained(dict(model)))
    return built.to('meta').train()


def meta_step(model: MultiTaskPerception, batch: Batch, annotations: Sequence[Annotations]) -> StepCost:
    """Run a step as a GPU would, from the batch as it comes from the loader to the gradients of all weights.

    Args:
        model: from `build_on_meta`.
        batch: on the CPU.
        annotations: its labels.

    Raises:
        WrongDeviceError: something was created on the CPU. RuntimeError: shapes do not fit.
        ValueError: a weight that learns got no gradient.
    """
    counter = StepCounter([*model.parameters(), *model.buffers()])
    with autocast_passes_meta(), ValuesAside(counter.seen):
        data = model.data_preprocessor({'inputs': batch, 'data_samples': list(annotations)}, True)
        losses = model(**data, mode='loss')
        forward = counter.flop
        torch.stack([term.float() for term in losses.values()]).sum().backward()

    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        raise ValueError(f'{len(without)} parameters have no gradient, the first: {", ".join(without[:5])}')
    parameters = sum(p.numel() for p in model.parameters())
    return StepCost(
        parameters, forward / 1e12, (counter.flop - forward) / 1e12, counter.peak / GIB, tuple(losses))
