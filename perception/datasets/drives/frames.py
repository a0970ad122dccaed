"""Frames of one drive in the order of time: for memories that are carried from one to the next."""
from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ...core.contracts import Sample
from ..reading.options import ReadingOptions
from ..reading.records import FrameRecord
from ..transforms.image import Compose, Pair, flat_transforms, sample_rng


class FollowsDrives:
    """What a dataset of frames knows of drives: which frame came before, and how to change a drive alike.

    Attributes:
        tokens: of the frames.
        indices: {token: index}.
        scene_of: {token: its scene}, also of frames of other splits.
        order_of: {token: its place in the scene}.
        record: token -> what the infos know of the frame.
        load_sample: such a record -> the frame as the sensors gave it.
        pipeline, reading, seed: of the dataset.
        in_streams: a drive is followed frame by frame.
    """

    tokens: list[str]
    indices: Mapping[str, int]
    scene_of: Mapping[str, str]
    order_of: Mapping[str, int]
    record: Callable[[str], FrameRecord]
    load_sample: Callable[[FrameRecord], Sample]
    pipeline: Compose
    reading: ReadingOptions
    seed: int
    in_streams = False

    def previous(self, index: int) -> int | None:
        """Index of the frame before this one in the same drive, None for the first one."""
        return self.indices.get(self.record(self.tokens[index]).previous)

    def previous_sample(self, sample: Sample) -> Sample | None:
        """The frame before this one as the sensors gave it, before the pipeline.

        None at the start of a drive or of the split.
        """
        index = self.previous(self.indices[sample.frame.token])
        return None if index is None else self.load_sample(self.record(self.tokens[index]))

    def drives(self) -> list[list[int]]:
        """Indices of each drive's frames in the order of time, drives as they come first."""
        drives: dict[str, list[int]] = {}
        for index, token in enumerate(self.tokens):
            drives.setdefault(self.scene_of[token], []).append(index)
        return [sorted(drive, key=lambda i: self.order_of[self.tokens[i]]) for drive in drives.values()]

    def follow_drives(self) -> None:
        """From now on drives are followed frame by frame, as a `StreamSampler` does.

        All frames of a drive with one draw are changed alike, and say so in `Frame.stream`.

        Raises:
            ValueError: with bad_file='skip' frames of other times would stand between; or a transform changes
            single frames alone (`PasteObjects`).
        """
        if self.reading.bad_file == 'skip':
            raise ValueError(
                "bad_file: 'skip' would put frames of other times into a drive; expected 'mask' or 'raise'"
            )
        self.in_streams = True
        for transform in flat_transforms(self.pipeline.transforms):
            if hasattr(transform, 'check_frames_alone'):
                transform.check_frames_alone(self)

    def changed(self, pair: Pair, draw: int, index: int, run: int | None) -> Pair:
        """A frame after the pipeline, with those before it where clips are asked for.

        Args:
            pair: before the pipeline.
            draw: of its randomness.
            index: of its randomness.
            run: the draw as the sampler gave it, which names a run of frames; None without one.
        """
        sample, annotations = pair
        count, drive = self.reading.clip_frames - 1, None
        if self.in_streams:
            drive = (self.seed, draw, zlib.crc32(sample.frame.scene.encode()))
        elif count:
            drive = (self.seed, draw, index)
        if self.in_streams and run is not None:
            sample = _named(sample, f'{sample.frame.scene} {run}')

        sample, annotations = self.pipeline(sample, annotations, sample_rng(self.seed, draw, index), drive)
        before = self._before(sample, count, draw, drive) if count else ()
        return (replace(sample, before=before) if before else sample), annotations

    def _before(
        self, sample: Sample, count: int, draw: int, drive: Sequence[int] | None
    ) -> tuple[Sample, ...]:
        """The `count` frames before a sample, the oldest first, changed and named as the sample itself.

        Before the start of a drive the oldest frame there is stands in, connected with nothing.
        """
        clip: list[Sample] = []
        at = self.previous(self.indices[sample.frame.token])
        while at is not None and len(clip) < count:
            older = _named(self.load_sample(self.record(self.tokens[at])), sample.frame.stream)
            clip.insert(0, self.pipeline(older, None, sample_rng(self.seed, draw, at), drive)[0])
            at = self.previous(at)

        first = clip[0] if clip else sample
        stand_in = replace(first, frame=first.frame.alone())
        return (stand_in,) * (count - len(clip)) + tuple(clip)


def _named(sample: Sample, stream: str) -> Sample:
    """A sample whose frame belongs to a run of that name."""
    return replace(sample, frame=replace(sample.frame, stream=stream))
