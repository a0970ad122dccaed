"""SQLite files of ROS 2 bags (.db3), read row after row; a file that was cut is read up to the cut."""
from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ...core.reading import MIB, BadFile
from .mcap_file import unpack_message
from .records import LARGEST_MESSAGE_MIB, BagTopic, RawMessage, plain_type

MAGIC = b'SQLite format 3\0'


class SqliteBag:
    """A .db3 file.

    Args:
        path: the file.
        packed: every message is packed with zstd, as the recording's metadata say.

    Raises:
        BadFile: this is no SQLite file.
    """

    def __init__(self, path: Path, packed: bool = False) -> None:
        self.path, self.packed = path, packed
        self.problems: list[str] = []
        with path.open('rb') as file:
            start = file.read(len(MAGIC))
        if start != MAGIC:
            raise BadFile(path, f'found the first bytes {start!r}, expected those of an SQLite file')

    def _open(self) -> sqlite3.Connection:
        """A connection that reads only, and does not refuse a file that is shorter than its header says."""
        place = self.path.absolute().as_uri()
        wal = self.path.with_name(f'{self.path.name}-wal')
        # a journal beside the file holds the last messages of a recorder that was killed
        found = wal.is_file() and wal.stat().st_size
        connection = sqlite3.connect(f'{place}?mode=ro{"" if found else "&immutable=1"}', uri=True)
        connection.execute('PRAGMA writable_schema=ON')
        connection.text_factory = lambda text: text.decode('utf-8', 'replace')
        if hasattr(connection, 'setlimit'):  # Python 3.11 and later
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_MESSAGE_MIB * MIB)
        return connection

    def topics(self) -> list[BagTopic]:
        """The rows of the table of topics."""
        try:
            with closing(self._open()) as connection:
                return list(self._topics(connection).values())
        except sqlite3.Error as error:
            raise BadFile(self.path, f'cannot be read as a ROS 2 bag: {error}') from error

    def _topics(self, connection: sqlite3.Connection) -> dict[int, BagTopic]:
        rows = connection.execute('SELECT id, name, type, serialization_format FROM topics').fetchall()
        definitions = _definitions(connection)
        counts = _counts(connection)
        return {
            key: BagTopic(
                name, plain_type(kind), encoding, *definitions.get(kind, ('', '')),
                count=None if counts is None else counts.get(key, 0))
            for key, name, kind, encoding in rows}

    def messages(self) -> Iterator[RawMessage]:
        """The rows of the table of messages, as they were written."""
        self.problems.clear()
        last = None
        try:
            with closing(self._open()) as connection:
                topics = self._topics(connection)
                for row, key, log_ns, data in connection.execute(
                        'SELECT rowid, topic_id, timestamp, data FROM messages'):
                    last = row
                    if (message := self._message(topics, row, key, log_ns, data)) is not None:
                        yield message
        except sqlite3.Error as error:
            where = 'before the first message' if last is None else f'behind message {last}'
            self.problems.append(f'{self.path.name}: {error} {where}; what comes before it was kept')

    def _message(
        self, topics: dict[int, BagTopic], row: int, key: object, log_ns: object, data: object
    ) -> RawMessage | None:
        """The message of a row; None, and words, where its columns are of other kinds."""
        if key not in topics or not isinstance(log_ns, int) or not isinstance(data, bytes):
            self.problems.append(f'{self.path.name}: message {row} has no topic, no time or no bytes')
            return None
        if not self.packed:
            return RawMessage(topics[key], log_ns, data)
        try:
            return RawMessage(topics[key], log_ns, unpack_message(data))
        except ValueError as error:
            self.problems.append(f'{self.path.name}: message {row} is damaged ({error})')
            return None


def _definitions(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """Type -> its text and format; bags of before ROS 2 Iron carry none."""
    try:
        rows = connection.execute(
            'SELECT topic_type, encoded_message_definition, encoding FROM message_definitions')
        return {kind: (text, form) for kind, text, form in rows}
    except sqlite3.Error:
        return {}


def _counts(connection: sqlite3.Connection) -> dict[int, int] | None:
    """Topic's row -> its messages; None where the table cannot be read to its end."""
    try:
        return dict(connection.execute('SELECT topic_id, count(*) FROM messages GROUP BY topic_id'))
    except sqlite3.Error:
        return None
