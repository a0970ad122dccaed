"""The messages that an import needs, of one recording or of several that ran together."""
from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from ...core.reading import BadFile
from ..order import BagMessage
from ..recording import Recording
from .mapping import DriveMapping

TF_TOPICS = ('/tf', '/tf_static')
TF_TYPES = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
TYPES_OF_KIND = {
    'camera': ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'),
    'lidar': ('sensor_msgs/msg/PointCloud2',)}
TOGETHER_S = 60.0
"""Recordings of different sensors must begin within this time of each other."""


class DriveStream:
    """Messages of one or more recordings by their times.

    Args:
        recordings: opened.
        mapping: which topics are needed.

    Raises:
        ValueError: a topic that no recording has, or whose type is none of its sensor's.
    """

    def __init__(self, recordings: Sequence[Recording], mapping: DriveMapping) -> None:
        self.recordings, self.mapping = list(recordings), mapping
        self._topics = [self._topics_of(recording) for recording in recordings]
        self._check_topics()

    def _topics_of(self, recording: Recording) -> list[str]:
        names = [*self.mapping.topics, *TF_TOPICS]
        return [name for name in dict.fromkeys(names) if name in recording.topics]

    def _check_topics(self) -> None:
        found = {name: recording.topics[name] for recording in self.recordings for name in recording.topics}
        places = ', '.join(str(recording.path) for recording in self.recordings)
        for name in self.mapping.topics:
            if name not in found:
                raise ValueError(
                    f'{places}: found no topic {name!r} of the mapping; there are: {", ".join(found)}')

        wanted = {source.topic: TYPES_OF_KIND.get(self.mapping.kind_of(channel))
                  for channel, source in self.mapping.sensors.items()}
        wanted |= {s.info: ('sensor_msgs/msg/CameraInfo',) for s in self.mapping.cameras.values() if s.info}
        if self.mapping.poses.topic:
            wanted[self.mapping.poses.topic] = ('nav_msgs/msg/Odometry',)
        elif '/tf' not in found:
            raise ValueError(f'{places}: found no topic /tf, expected it or poses.topic in the mapping')
        wanted |= {name: TF_TYPES for name in TF_TOPICS if name in found}
        for name, types in wanted.items():
            if types and found[name].type not in types:
                raise ValueError(
                    f'{places}: {name}: found the type {found[name].type}, expected {" or ".join(types)}')

    def messages(self) -> Iterator[tuple[int, BagMessage]]:
        """(Number of jumps of a clock so far, message), by time.

        Raises:
            BadFile: recordings, or sensors of one, whose clocks are different ones.
        """
        infos = {source.info for source in self.mapping.cameras.values()}
        streams = [
            recording.messages(topics, infos)
            for recording, topics in zip(self.recordings, self._topics, strict=True) if topics]
        streams = self._begun_together(streams)
        stretches: dict[int, int] = {}
        tagged = [zip(stream, repeat(i)) for i, stream in enumerate(streams)]  # noqa: B905
        for message, i in heapq.merge(*tagged, key=lambda pair: pair[0].time_ns):
            self._check_clock(message)
            stretches[i] = message.stretch
            yield sum(stretches.values()), message

    def _begun_together(self, streams: list[Iterator[BagMessage]]) -> list[Iterator[BagMessage]]:
        """The streams, where their first times fit together or each has all topics."""
        firsts = [next(stream, None) for stream in streams]
        times = [first.time_ns for first in firsts if first is not None]
        needed = set(self.mapping.topics)
        parts = all(needed <= set(topics) for topics in self._topics)
        if len(times) > 1 and not parts and (max(times) - min(times)) * 1e-9 > TOGETHER_S:
            raise BadFile(
                self.recordings[-1].path,
                f'its first time lies {(max(times) - min(times)) * 1e-9:.3f} s from that of '
                f'{self.recordings[0].path}: they run on different clocks, or do not belong together '
                f'(expected at most {TOGETHER_S:.0f} s)')
        begun = zip(firsts, streams, strict=True)
        return [chain([first], stream) for first, stream in begun if first is not None]

    def _check_clock(self, message: BagMessage) -> None:
        for recording in self.recordings:
            seconds = recording.report.other_clocks_s.get(message.topic.name)
            if seconds is not None and message.has_stamp:
                raise BadFile(
                    recording.path,
                    f'{message.topic.name}: its clock differs by {seconds:.3f} s from that of the other '
                    'topics: sensors of different clocks cannot be put together (set them to one clock)')

    def problems(self) -> list[str]:
        """What is damaged in the recordings."""
        return [words for recording in self.recordings for words in recording.problems]

    def order_record(self) -> dict[str, object]:
        """What putting messages in order found, over all recordings."""
        record: dict[str, object] = {}
        for name in ('late', 'strays', 'repeated'):
            counts: dict[str, int] = {}
            for recording in self.recordings:
                counts.update({topic: n for topic, n in getattr(recording.report, name).items() if n})
            record[f'{name}_stamps'] = counts
        jumps = [words for recording in self.recordings for words in recording.report.jumps]
        return {**record, 'clock_jumps': jumps}
