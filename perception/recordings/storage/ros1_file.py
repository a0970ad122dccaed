"""ROS 1 bags (.bag), read by the library rosbags; they need their index (`rosbag reindex` writes it)."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...core.reading import DAMAGE, BadFile
from .records import BagTopic, RawMessage, bags_extra, plain_type


class Ros1Bag:
    """A .bag file.

    Args:
        path: the file.

    Raises:
        MissingReader: the library rosbags is not installed. BadFile: no ROS 1 bag, or one without its index.
    """

    def __init__(self, path: Path) -> None:
        with bags_extra(path):
            from rosbags.rosbag1 import Reader, ReaderError

        self.path = path
        self.problems: list[str] = []
        self._errors = (ReaderError, *DAMAGE)
        try:
            self._reader = Reader(path)
            self._reader.open()
        except self._errors as error:
            raise BadFile(
                path, f'cannot be read as a ROS 1 bag: {error}; `rosbag reindex` repairs one that was cut'
            ) from error

    def topics(self) -> list[BagTopic]:
        """All topics of the index."""
        counts: Counter[str] = Counter()
        topics = {}
        for connection in self._reader.connections:
            counts[connection.topic] += connection.msgcount
            topics[connection.topic] = _topic(connection, counts[connection.topic])
        return list(topics.values())

    def messages(self) -> Iterator[RawMessage]:
        """The messages by the time they were received."""
        self.problems.clear()
        topics = {connection.id: _topic(connection) for connection in self._reader.connections}
        try:
            for connection, log_ns, data in self._reader.messages():
                yield RawMessage(topics[connection.id], log_ns, bytes(data))
        except self._errors as error:
            words = ' '.join(str(error).split())[:200]
            self.problems.append(f'{self.path.name}: {words}; what comes before it was kept')


def _topic(connection: object, count: int | None = None) -> BagTopic:
    return BagTopic(
        connection.topic, plain_type(connection.msgtype), 'ros1', connection.msgdef.data, 'ros1msg', count)
