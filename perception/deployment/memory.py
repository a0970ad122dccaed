"""What an engine's model remembers: the memory is an input and an output of the graph, the rest is here."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..core.contracts import Frame
from ..model import MultiTaskPerception, flatten_outputs
from .export.graph import fixed_shapes, graph_inputs
from .frames import Frames

NEW_MEMORY = 'memory.map'
Arrays = dict[str, np.ndarray]


class EngineMemory:
    """The memory of the drives that one engine follows.

    A model without a memory has none here either: nothing is added and nothing is kept.

    Args:
        model: whose memory it is.
        streams: where it is kept; None: the model's own in evaluation.
        drive: name of the drive of frames without one; '' leaves them without a past.
    """

    def __init__(self, model: MultiTaskPerception, streams: Any | None = None, drive: str = '') -> None:
        self.memory = model.memory
        self.drive = drive
        self.streams = streams
        if streams is None and self.memory is not None:
            self.streams = self.memory.streams[False]

    @classmethod
    def of_vehicle(cls, model: MultiTaskPerception) -> EngineMemory:
        """That of one vehicle: wrong order starts over, frames without a name are of its one drive."""
        streams = None if model.memory is None else model.memory.new_streams(strict=False)
        return cls(model, streams, drive='vehicle')

    @property
    def resets(self) -> dict[str, int]:
        """How often it started over, by reason."""
        return {} if self.streams is None else dict(self.streams.resets)

    @torch.no_grad()
    def recalled(self, inputs: Arrays, frames: Sequence[Frame]) -> Arrays:
        """Graph inputs with what is known of the frames' drives in the place of an absent memory."""
        if self.memory is None:
            return inputs
        known = self.streams.recall(self._named(frames))
        earlier = self.memory.prepare(known, frames, 'cpu')
        return inputs | {f'memory.{name}': tensor.numpy() for name, tensor in earlier.items()}

    def keep(self, raw: Arrays, frames: Sequence[Frame], only: bool = True) -> None:
        """Remember what the network gave.

        Args:
            raw: its outputs.
            frames: that they are of.
            only: forget other drives.
        """
        if self.memory is None:
            return
        frames = self._named(frames)
        self.streams.keep(frames, torch.from_numpy(raw[NEW_MEMORY]))
        if only:
            self.streams.only(frames)

    def _named(self, frames: Sequence[Frame]) -> list[Frame]:
        return [frame if frame.run else replace(frame, stream=self.drive) for frame in frames]


@torch.no_grad()
def sampled_inputs(model: MultiTaskPerception, frames: Frames, indices: Sequence[int]) -> Iterator[Arrays]:
    """Graph inputs of some frames; a memory's are those that the frames right before leave.

    Ranges of int8 and comparisons of engines would otherwise see a network that remembers nothing.

    Args:
        model: with its weights.
        frames: of a split, a drive's in the order of time.
        indices: of the frames.
    """
    for index in indices:
        batch = frames.read(index)
        memory = EngineMemory(model, None if model.memory is None else model.memory.new_streams(strict=False))
        earlier = 0 if model.memory is None else min(index, model.memory.slots)
        for older in map(frames.read, range(index - earlier, index)):
            inputs = memory.recalled(graph_inputs(model, older), older.frames)
            with fixed_shapes(model):
                raw = model.network({name: torch.from_numpy(value) for name, value in inputs.items()})
            memory.keep({name: value.numpy() for name, value in flatten_outputs(raw).items()}, older.frames)
        yield memory.recalled(graph_inputs(model, batch), batch.frames)


def first_drive(frames: Frames, most: int) -> Iterator[Any]:
    """Batches of the first drive of a split, in order, `most` at most."""
    first = None
    for index in range(min(most, frames.count)):
        batch = frames.read(index)
        first = first or batch.frames[0].run
        if batch.frames[0].run != first:
            return
        yield batch
