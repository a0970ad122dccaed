"""What is remembered of each drive between two frames: plain records around the network, no weights."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core.contracts import Frame
from .motion import MemoryLimits, has_pose, reset_reason


@dataclass(frozen=True)
class Remembered:
    """One map of an earlier frame.

    Attributes:
        frame: whose map it is.
        map_CYX: what the network gave as its new memory.
    """

    frame: Frame
    map_CYX: Tensor


class WrongOrderError(ValueError):
    """A frame came that is not later than the one before it in its drive."""


class Streams:
    """The memory of any number of drives, each by its own name (`Frame.run`).

    A frame without a name has no past and leaves none.

    Args:
        slots: most maps of a drive, the newest first.
        limits: what is still believed.
        strict: frames of a drive in wrong order are an error, as where somebody chooses their order (the same
            frame again starts over); False starts over, as on a vehicle.

    Attributes:
        resets: {reason of `RESETS`: how often}.
    """

    def __init__(self, slots: int = 1, limits: MemoryLimits | None = None, strict: bool = True) -> None:
        self.slots = slots
        self.limits = limits or MemoryLimits()
        self.strict = strict
        self.resets: Counter[str] = Counter()
        self._kept: dict[str, tuple[Remembered, ...]] = {}
        self._pasts: dict[str, tuple[Frame, tuple[Remembered, ...]]] = {}
        self._apart = False

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, frames: Sequence[Frame]) -> list[tuple[Remembered, ...]]:
        """What is known of each frame's drive, the newest first; nothing where it starts over.

        Raises:
            ValueError: two frames of one drive in one batch, of which one would have to wait for the other.
            WrongOrderError: see `strict`.
        """
        runs = Counter(frame.run for frame in frames if frame.run)
        twice = [run for run, count in runs.items() if count > 1]
        if twice:
            raise ValueError(
                f'a memory takes one frame of a drive at a time, found {runs[twice[0]]} of {twice[0]!r} in '
                'one batch (a StreamSampler gives every place of a batch a drive of its own)'
            )
        pasts = []
        for frame in frames:
            past = self._past_again(frame)
            pasts.append(self._recall(frame) if past is None else past)
            if frame.run and self.strict:  # what `apart` gives it again; a vehicle has no second forward
                self._pasts[frame.run] = (frame, pasts[-1])
        return pasts

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While it lasts, a frame that comes again has the past that it had and leaves the memory as it is.

        For other forwards of a batch than the one that counts; new frames are followed as always.
        """
        before, self._apart = self._apart, True
        try:
            yield
        finally:
            self._apart = before

    def _past_again(self, frame: Frame) -> tuple[Remembered, ...] | None:
        """With `apart`, the past of the frame that came last in its drive; None for any other frame."""
        last, past = self._pasts.get(frame.run, (None, ()))
        return past if self._apart and last is not None and _same(last, frame) else None

    def _recall(self, frame: Frame) -> tuple[Remembered, ...]:
        known = self._kept.get(frame.run, ())
        if not known:
            if self._kept:
                self.resets['new drive'] += 1
            return ()

        reason = reset_reason(known[0].frame, frame, self.limits)
        if reason == 'order' and self.strict and not _same(known[0].frame, frame):
            raise WrongOrderError(
                f'drive {frame.run!r}: frame {frame.token} ({frame.timestamp_ns} ns) came after '
                f'{known[0].frame.token} ({known[0].frame.timestamp_ns} ns); a memory needs frames in the '
                'order of time (`forget()` of the model starts over)'
            )
        if reason is not None:
            self.resets[reason] += 1
            return ()
        return tuple(one for one in known if reset_reason(one.frame, frame, self.limits) is None)

    def keep(self, frames: Sequence[Frame], maps_BCYX: Tensor) -> None:
        """Remember the new maps `(B, C, Y, X)`; one that is not finite is forgotten with all before it.

        Drives start over behind a frame without a usable pose.
        """
        finite = maps_BCYX.detach().float().sum((1, 2, 3)).isfinite().tolist()
        for frame, map_CYX, good in zip(frames, maps_BCYX, finite, strict=True):
            known = self._kept.get(frame.run, ())
            if not frame.run or (self._apart and known and _same(known[0].frame, frame)):
                continue
            self._kept.pop(frame.run, None)
            if not good:
                self.resets['not finite'] += 1
            elif has_pose(frame):
                known = tuple(one for one in known if reset_reason(one.frame, frame, self.limits) is None)
                self._kept[frame.run] = (Remembered(frame, map_CYX), *known)[:self.slots]

    def only(self, frames: Sequence[Frame]) -> None:
        """Forget all drives but those of `frames`."""
        runs = {frame.run for frame in frames}
        self._kept = {run: known for run, known in self._kept.items() if run in runs}
        self._pasts = {run: past for run, past in self._pasts.items() if run in runs}

    def forget(self) -> None:
        """Start over everywhere, without counting it."""
        self._kept, self._pasts = {}, {}

    def state(self) -> list[dict[str, Any]]:
        """All that is remembered, as values that a checkpoint keeps."""
        return [
            {'stream': one.frame.stream, 'scene': one.frame.scene, 'token': one.frame.token,
             'timestamp_ns': one.frame.timestamp_ns, 'map': one.map_CYX.detach().cpu().clone(),
             'global_T_ego': torch.from_numpy(one.frame.global_T_ego.copy())}
            for known in self._kept.values() for one in known]

    def load(self, state: Sequence[Mapping[str, Any]], device: torch.device | str = 'cpu') -> None:
        """Inverse of `state`."""
        self.forget()
        for entry in state:
            frame = Frame(
                entry['token'], entry['timestamp_ns'], entry['global_T_ego'].cpu().numpy(), entry['scene'],
                stream=entry['stream'])
            one = Remembered(frame, entry['map'].to(device))
            self._kept[frame.run] = (*self._kept.get(frame.run, ()), one)


class Clips(Streams):
    """The memory of a batch of clips: each by its place in the batch, also where several are of one drive."""

    def recall(self, frames: Sequence[Frame]) -> list[tuple[Remembered, ...]]:
        """As of `Streams`."""
        return super().recall(_by_place(frames))

    def keep(self, frames: Sequence[Frame], maps_BCYX: Tensor) -> None:
        """As of `Streams`."""
        super().keep(_by_place(frames), maps_BCYX)


def _by_place(frames: Sequence[Frame]) -> list[Frame]:
    """Frames whose drives have their place in the batch in their names; those without a name stay so."""
    return [
        replace(frame, stream=f'{place} {frame.run}') if frame.run else frame
        for place, frame in enumerate(frames)]


def _same(one: Frame, other: Frame) -> bool:
    """Whether both are one frame of a drive."""
    return (one.token, one.timestamp_ns) == (other.token, other.timestamp_ns)
