"""MCAP files, whole or cut short: record after record, each chunk unpacked within bounds.

Format: https://mcap.dev/spec. A file whose recorder was killed has no summary and ends inside a record; all
messages that are whole before the cut are read, those inside the last, unfinished chunk too.
"""
from __future__ import annotations

import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...core.reading import DAMAGE, MIB, BadFile, allowed_bytes
from .records import LARGEST_MESSAGE_MIB, BagTopic, RawMessage, bags_extra, plain_type

if TYPE_CHECKING:
    from mcap.summary import Summary

MAGIC = b'\x89MCAP0\r\n'
LARGEST_CHUNK_MIB = 1024
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 1, 2, 3, 4, 5, 6, 15
_RECORD = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')


class _Cut(Exception):
    """The file ends, or cannot be followed, at this record; `body` is what there is of it."""

    def __init__(self, offset: int, words: str, opcode: int = 0, body: bytes = b'') -> None:
        super().__init__(words)
        self.offset, self.opcode, self.body = offset, opcode, body


class McapBag:
    """An MCAP file.

    Args:
        path: the file.

    Raises:
        MissingReader: the library mcap is not installed. BadFile: this is no MCAP file.
    """

    def __init__(self, path: Path) -> None:
        with bags_extra(path):
            import mcap.records  # noqa: F401

        self.path = path
        self.problems: list[str] = []
        self._schemas: dict[int, Any] = {}
        self._channels: dict[int, BagTopic] = {}
        with path.open('rb') as file:
            start = file.read(len(MAGIC))
        if start != MAGIC:
            raise BadFile(path, f'found the first bytes {start!r}, expected those of an MCAP file')

    # ------------------------------------------------------------------------ topics

    def topics(self) -> list[BagTopic]:
        """All topics: from the summary, or where there is none by reading the whole file once."""
        summary = self._summary()
        if summary is None or summary.statistics is None or not summary.channels:
            return self._scanned()

        counts = summary.statistics.channel_message_counts
        self._schemas.update(summary.schemas)
        for channel in summary.channels.values():
            self._add_channel(channel)
        return _merged((self._channels[key], counts.get(key, 0)) for key in summary.channels)

    def _scanned(self) -> list[BagTopic]:
        counts = Counter(message.topic.name for message in self.messages())
        topics = {topic.name: topic for topic in self._channels.values()}
        return [replace(topic, count=counts[name]) for name, topic in topics.items()]

    def _summary(self) -> Summary | None:
        """The summary at the end; None where there is none or it cannot be read."""
        from mcap.exceptions import McapError
        from mcap.reader import SeekingReader

        limit = allowed_bytes(LARGEST_CHUNK_MIB)
        try:
            with self.path.open('rb') as file:
                return SeekingReader(file, record_size_limit=limit).get_summary()
        except (McapError, *DAMAGE):
            return None

    def _add_channel(self, channel: Any) -> None:
        schema = self._schemas.get(channel.schema_id)
        kind = plain_type(schema.name) if schema else ''
        definition = schema.data.decode('utf-8', 'replace') if schema else ''
        self._channels[channel.id] = BagTopic(
            channel.topic, kind, channel.message_encoding, definition, schema.encoding if schema else '')

    # ------------------------------------------------------------------------ messages

    def messages(self) -> Iterator[RawMessage]:
        """The messages chunk by chunk; chunks that lie out of order in the file by their first times."""
        self.problems.clear()
        places = self._chunks_out_of_order()
        try:
            with self.path.open('rb') as file:
                records = self._at(file, places) if places else self._in_order(file)
                for offset, opcode, body in records:
                    yield from self._taken(offset, opcode, body)
        except _Cut as cut:
            self.problems.append(
                f'{self.path.name}: {cut} at byte {cut.offset}; what comes before it was kept')
            yield from self._rest(cut)

    def _chunks_out_of_order(self) -> list[int]:
        """Where chunks begin, by time, if they do not lie in the order of time already; else nothing."""
        summary = self._summary()
        if summary is None:
            return []
        for schema in summary.schemas.values():
            self._schemas[schema.id] = schema
        for channel in summary.channels.values():
            self._add_channel(channel)

        chunks = sorted(summary.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset)
        starts = [chunk.message_start_time for chunk in chunks if chunk.message_index_length]
        if starts == sorted(starts):
            return []
        return [chunk.chunk_start_offset for chunk in sorted(chunks, key=lambda c: c.message_start_time)]

    def _in_order(self, file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
        """Record after record: offset, opcode and body, to the end of the data. Raises _Cut."""
        file.seek(len(MAGIC))
        size = os.fstat(file.fileno()).st_size
        while True:
            offset, opcode, body = _read_record(file, size)
            if opcode in (DATA_END, FOOTER):
                return
            yield offset, opcode, body

    def _at(self, file: BinaryIO, places: list[int]) -> Iterator[tuple[int, int, bytes]]:
        size = os.fstat(file.fileno()).st_size
        for place in places:
            file.seek(place)
            yield _read_record(file, size)

    def _taken(self, offset: int, opcode: int, body: bytes) -> Iterator[RawMessage]:
        """The messages of one record of the file; a damaged one is passed over and said."""
        if opcode not in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
            return
        try:
            if opcode == CHUNK:
                yield from self._of_chunk(unpack_chunk(body))
            elif (message := self._of_record(opcode, body)) is not None:
                yield message
        except (*DAMAGE, _Cut) as error:
            words = ' '.join(str(error).split())[:200]
            self.problems.append(f'{self.path.name}: the record at byte {offset} is damaged ({words})')

    def _of_chunk(self, content: bytes) -> Iterator[RawMessage]:
        place, view = 0, memoryview(content)
        while place < len(content):
            if len(content) - place < _RECORD.size:
                raise _Cut(place, 'a record of its content is cut')
            opcode, size = _RECORD.unpack_from(view, place)
            place += _RECORD.size
            if size > len(content) - place:
                raise _Cut(place, 'a record of its content is cut')
            message = self._of_record(opcode, view[place:place + size])
            if message is not None:
                yield message
            place += size

    def _of_record(self, opcode: int, body: bytes | memoryview) -> RawMessage | None:
        from mcap.data_stream import ReadDataStream
        from mcap.records import Channel, Schema

        if opcode == MESSAGE:
            channel, _, log_ns, _ = _MESSAGE.unpack_from(body)
            if channel not in self._channels:
                raise ValueError(f'a message of the channel {channel}, which nothing describes')
            return RawMessage(self._channels[channel], log_ns, bytes(body[_MESSAGE.size:]))

        if opcode == SCHEMA:
            schema = Schema.read(ReadDataStream(io.BytesIO(body)))
            self._schemas[schema.id] = schema
        elif opcode == CHANNEL:
            self._add_channel(Channel.read(ReadDataStream(io.BytesIO(body))))
        return None

    def _rest(self, cut: _Cut) -> Iterator[RawMessage]:
        """The whole messages of a chunk that the end of the file cuts."""
        if cut.opcode != CHUNK:
            return
        try:
            yield from self._of_chunk(unpack_chunk(cut.body, cut=True))
        except (*DAMAGE, _Cut):
            return  # the cut is said already


def _merged(topics: Iterable[tuple[BagTopic, int]]) -> list[BagTopic]:
    """One row a topic, with its messages over all channels that have its name."""
    found: dict[str, BagTopic] = {}
    for topic, count in topics:
        known = found.get(topic.name)
        found[topic.name] = replace(topic, count=count + (known.count if known else 0))
    return list(found.values())


def _read_record(file: BinaryIO, file_size: int) -> tuple[int, int, bytes]:
    """The record at the file's place: offset, opcode, body.

    Raises:
        _Cut: it does not fit into the file.
    """
    offset = file.tell()
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size:
        raise _Cut(offset, 'the file ends without a summary')

    opcode, size = _RECORD.unpack(head)
    left = file_size - file.tell()
    if not opcode or size > allowed_bytes(LARGEST_CHUNK_MIB):
        raise _Cut(offset, f'found a record of kind {opcode} with {size / MIB:.0f} MiB')
    body = file.read(min(size, left))
    if len(body) < size:
        raise _Cut(offset, f'the file ends inside a record, {size - left} bytes short', opcode, body)
    return offset, opcode, body


# -------------------------------------------------------------------- chunks

def unpack_chunk(body: bytes, cut: bool = False) -> bytes:
    """The records inside a chunk record's body.

    Args:
        body: of the chunk record.
        cut: it ends early; give what there is.

    Raises:
        ValueError: unknown compression, or a size or checksum that is not the one its header says.
    """
    size, check, name_size = struct.unpack_from('<QII', body, 16)
    name = body[32:32 + name_size].decode('ascii')
    packed = memoryview(body)[32 + name_size + 8:]
    if size > allowed_bytes(LARGEST_CHUNK_MIB):
        raise ValueError(f'a chunk that unpacks to {size / MIB:.0f} MiB, expected {LARGEST_CHUNK_MIB}')

    content = unpack(packed, name, size)
    if cut:
        return content
    if len(content) != size:
        raise ValueError(f'a chunk of {len(content)} bytes, its header says {size}')
    if check and zlib.crc32(content) != check:
        raise ValueError('a chunk whose content does not match its checksum')
    return content


def unpack(packed: bytes | memoryview, name: str, size: int) -> bytes:
    """Content of packed bytes, of which no more than `size` + 1 bytes are made; less where they are cut.

    Raises:
        ValueError: the compression is none of '', 'lz4', 'zstd'.
    """
    if name == '':
        return bytes(packed[:size + 1])
    if name == 'lz4':
        from lz4.frame import LZ4FrameDecompressor
        return LZ4FrameDecompressor().decompress(packed, max_length=size + 1)
    if name == 'zstd':
        return unpack_zstd(packed, size)
    raise ValueError(f"a chunk packed with {name!r}, expected '', 'lz4' or 'zstd'")


def unpack_zstd(packed: bytes | memoryview, size: int) -> bytes:
    """As `unpack`; what comes before damage is given.

    Raises:
        ValueError: nothing of it can be unpacked.
    """
    import zstandard
    stream = zstandard.ZstdDecompressor(max_window_size=2 ** 31).stream_reader(packed)
    parts: list[bytes] = []
    try:
        while size >= 0 and (part := stream.read(min(MIB, size + 1))):
            parts.append(part)
            size -= len(part)
    except zstandard.ZstdError as error:
        if not parts:
            raise ValueError(str(error)) from error
    return b''.join(parts)


def unpack_message(data: bytes) -> bytes:
    """A message that its recorder packed with zstd, within the limit of a message.

    Raises:
        ValueError: it is damaged or too large.
    """
    limit = LARGEST_MESSAGE_MIB * MIB
    content = unpack_zstd(data, limit)
    if len(content) > limit:
        raise ValueError(f'a message that unpacks to more than {LARGEST_MESSAGE_MIB} MiB')
    return content
