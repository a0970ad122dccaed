"""Several forwards as one model: mirrored views of a batch, several weights, or both."""
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..core.contracts import Annotations, Batch, TaskOutput
from ..core.contracts.finite import NotFiniteError, not_finite
from ..heads.averaging import OutputSpace
from ..heads.base import TaskHead
from ..model import MultiTaskPerception, flatten_outputs
from .views import make_views, mirror_places, mirrored_batch

Raw = dict[str, dict[str, Tensor]]


class AveragedModel(BaseModel):
    """The mean prediction of several forwards; for testing alone.

    Each model sees each view of a batch: `len(models) * 2 ** len(mirrored)` forwards, one after the other, so
    activations take the memory of one; the raw outputs of all of them are held. Raw outputs are brought back
    by `TaskHead.mirror`, joined by `TaskHead.average` and decoded once. A model with a memory has one of its
    own for each view.

    Args:
        models: equal in their tasks and in what their raw outputs lie on; the first one decodes.
        mirrored: what is mirrored, out of `views.MIRRORED`, in every combination; images not where no model
            has cameras.

    Raises:
        ValueError: a head does not say how its outputs are averaged, models differ (names the field), or no
            mirror brings the cells of all tasks to cells.
    """

    def __init__(self, models: Sequence[MultiTaskPerception], mirrored: Sequence[str] = ()) -> None:
        super().__init__()
        spaces = [output_spaces(model) for model in models]
        for number, other in enumerate(spaces[1:], 2):
            check_same_spaces(spaces[0], other, f'model {number}')
        for number, model in enumerate(models[1:], 2):
            _check_same_preprocessing(models[0], model, f'model {number}')

        self.models = nn.ModuleList(models).eval()
        self.data_preprocessor = models[0].data_preprocessor
        if not any('camera' in model.encoders for model in models):
            mirrored = [name for name in mirrored if name != 'images']
        grids = [space.cells for space in spaces[0].values() if space.cells is not None]
        self.views = make_views(mirrored, mirror_places(grids, mirrored))
        self._streams = {
            (m, v): model.memory.new_streams() for m, model in enumerate(models) if model.memory is not None
            for v in range(len(self.views))}

    @property
    def forwards(self) -> int:
        """How many forwards a batch takes."""
        return len(self.models) * len(self.views)

    @property
    def memory(self) -> Any:
        """What starts a test's drives over, as a model's own memory does; None without one."""
        return SimpleNamespace(streams={False: self}) if self._streams else None

    def forget(self) -> None:
        """Start all drives over."""
        for streams in self._streams.values():
            streams.forget()

    @torch.no_grad()
    def forward(
        self,
        inputs: Batch,
        data_samples: Sequence[Annotations] | None = None,
        mode: str = 'predict',
    ) -> list[TaskOutput]:
        """Predict a batch.

        Raises:
            ValueError: another mode than 'predict'.
            NotFiniteError: the outputs of a forward are not finite.
        """
        if mode != 'predict':
            raise ValueError(f"an average of forwards has mode 'predict' only, found {mode!r}")
        raws = [
            self._infer(m, v, mirrored_batch(inputs, view))
            for m in range(len(self.models)) for v, view in enumerate(self.views)]

        first = self.models[0]
        if len(raws) == 1:
            return first.decode(raws[0], inputs)
        joined = {task: head.average([raw[task] for raw in raws]) for task, head in first.heads.items()}
        return first.decode(joined, inputs)

    def _infer(self, m: int, v: int, batch: Batch) -> Raw:
        """The raw outputs of one model for one view, in the world as it is."""
        model, view = self.models[m], self.views[v]
        streams = model.recalled(batch) if batch.before else self._streams.get((m, v))
        raw = model.network(model.prepare(batch, streams))
        model.remember(batch, raw.pop('memory', {}).get('map'), streams)

        broken = not_finite(flatten_outputs(raw))
        if broken:
            tokens = ', '.join(frame.token for frame in batch.frames)
            raise NotFiniteError(
                f'outputs of model {m + 1}, view {v + 1}, are not finite: {", ".join(broken)}; samples: '
                f'{tokens}')
        if not (view.mirror.flip_x or view.mirror.flip_y):
            return raw
        return {task: head.mirror(raw[task], view.mirror) for task, head in model.heads.items()}


def output_spaces(model: MultiTaskPerception) -> dict[str, OutputSpace]:
    """What the outputs of each task lie on.

    Raises:
        ValueError: names a head that does not say how its outputs are averaged.
    """
    for task, head in model.heads.items():
        for name in ('output_space', 'mirror', 'average'):
            if getattr(type(head), name) is getattr(TaskHead, name):
                raise ValueError(
                    f'model.heads.{task}: outputs of {type(head).__name__} are not averaged: it has no '
                    f'{name}() (heads.base.TaskHead)')
    return {task: head.output_space() for task, head in model.heads.items()}


def check_same_spaces(
    first: dict[str, OutputSpace], other: dict[str, OutputSpace], name: str
) -> None:
    """Refuse models whose outputs cannot be averaged.

    Raises:
        ValueError: names the field that differs, what was found and what was expected.
    """
    if set(first) != set(other):
        raise ValueError(
            f'{name}: model.heads: expected the tasks {", ".join(first)} of the first model, found '
            f'{", ".join(other)}')
    for task, space in first.items():
        expected = {'cells': space.cells, **space.meaning}
        found = {'cells': other[task].cells, **other[task].meaning}
        for field in dict.fromkeys((*expected, *found)):
            if expected.get(field) != found.get(field):
                raise ValueError(
                    f'{name}: model.heads.{task}: {field}: expected {expected.get(field)} of the first '
                    f'model, found {found.get(field)}')


def _check_same_preprocessing(first: nn.Module, other: nn.Module, name: str) -> None:
    for field in ('mean', 'std'):
        expected, found = (getattr(model.data_preprocessor, field, None) for model in (first, other))
        if expected is not None and found is not None and not torch.equal(expected.cpu(), found.cpu()):
            raise ValueError(
                f'{name}: model.data_preprocessor.{field}: expected {expected.flatten().tolist()} of the '
                f'first model, found {found.flatten().tolist()}')
