"""One MCAP file with what was measured and what was predicted, as Foxglove and RViz play it."""
from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.records import BagTopic, RawMessage, bags_extra
from .definitions import Message, definition, encode, output_types

if TYPE_CHECKING:
    from mcap.writer import Writer

_ENCODING = 'cdr'


class McapRecorder:
    """Writes messages from any thread; the file can be read after `close`, whatever ended the writing.

    Until then it lies beside its place as `<name>.part`; one that a killed process leaves is read up to the
    cut once its name ends in `.mcap`.

    Args:
        path: of the file; an older one is overwritten at the end.

    Raises:
        MissingReader: the library mcap is not installed.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        with bags_extra(path):
            from mcap.writer import CompressionType, Writer

        self.path = Path(path)
        self.part = self.path.with_name(f'{self.path.name}.part')
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str, str], int] = {}
        self._schemas: dict[tuple[str, str, str], int] = {}
        self._sequence: dict[int, int] = {}

        self._file = self.part.open('wb')
        self._writer: Writer | None = Writer(self._file, compression=CompressionType.ZSTD)
        self._writer.start(profile='ros2', library='perception')

    def __enter__(self) -> McapRecorder:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def copy(self, message: RawMessage) -> None:
        """Write a message of a recording as it is, with its topic and definition."""
        self._add(message.topic, message.data, message.log_ns, message.log_ns)

    def write(self, topic: str, message: Message, log_ns: int, stamp_ns: int) -> None:
        """Write a message of ours.

        Args:
            topic: its name.
            message: what is encoded.
            log_ns: when it was there, on the recording's clock.
            stamp_ns: which moment it is about.
        """
        place = BagTopic(topic, message.type, _ENCODING, definition(message.type), 'ros2msg')
        self._add(place, encode(message), log_ns, stamp_ns)

    def close(self) -> None:
        """Finish the file and give it its name; nothing where that was done."""
        with self._lock:
            if self._writer is None:
                return
            writer, self._writer = self._writer, None
            with self._file:
                writer.finish()
            os.replace(self.part, self.path)

    def _add(self, topic: BagTopic, data: bytes, log_ns: int, stamp_ns: int) -> None:
        """Write bytes of a topic; what comes after `close` is left out, as by a car that was switched off."""
        with self._lock:
            if self._writer is None:
                return
            channel = self._channel(topic)
            self._sequence[channel] = self._sequence.get(channel, -1) + 1
            self._writer.add_message(channel, log_ns, data, stamp_ns, self._sequence[channel])

    def _channel(self, topic: BagTopic) -> int:
        """The number of a topic's channel, which is registered at its first message."""
        key = (topic.name, topic.type, topic.encoding)
        if key not in self._channels:
            self._channels[key] = self._writer.register_channel(
                topic.name, topic.encoding, self._schema(topic))
        return self._channels[key]

    def _schema(self, topic: BagTopic) -> int:
        """The number of a type's definition: the recording's own, a known one, or an empty one."""
        text, form = topic.definition, topic.definition_format
        if not text and topic.encoding == _ENCODING and topic.type in output_types().fielddefs:
            text, form = definition(topic.type), 'ros2msg'

        key = (topic.type, form, text)
        if key not in self._schemas:
            self._schemas[key] = self._writer.register_schema(topic.type, form, text.encode())
        return self._schemas[key]
