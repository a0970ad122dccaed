"""A recording as one thing: its topics, and its messages in the order of their times."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from ..core.config import nearest_name
from ..core.reading import BadFile
from .decoding import MessageDecoder
from .order import BagMessage, InOrder, OrderOptions, OrderReport
from .storage.folders import open_files
from .storage.records import BagTopic, RawMessage


class Recording:
    """A ROS 2 bag (folder, .db3, .mcap) or a ROS 1 bag (.bag), read in bounded memory.

    Args:
        path: the folder or file.
        order: how messages are put in order.

    Attributes:
        order: how messages are put in order.
        topics: name -> topic, also those without a message.
        problems: what is damaged or missing, in words; complete after a pass over the messages.
        report: what the last pass over the messages found.

    Raises:
        BadFile: nothing there, nothing that is a recording, or one without a single topic.
        MissingReader: the extra [bags] is not installed.
    """

    def __init__(self, path: str | Path, order: OrderOptions | None = None) -> None:
        self.path = Path(path)
        self.report = OrderReport()
        self.order = order or OrderOptions()
        self._decoder = MessageDecoder()
        self._files, self._folder_problems = open_files(self.path)
        self.topics = self._all_topics()
        if not self.topics:
            words = '; '.join(self.problems) or 'it is empty'
            raise BadFile(self.path, f'found no topic, expected some ({words})')

    @property
    def problems(self) -> list[str]:
        """What is damaged or missing, in words."""
        return [*self._folder_problems, *(words for file in self._files for words in file.problems)]

    def _all_topics(self) -> dict[str, BagTopic]:
        """The topics of all files, by name, with their messages counted over all."""
        topics: dict[str, BagTopic] = {}
        for file in list(self._files):
            try:
                found = file.topics()
            except BadFile as error:
                if len(self._files) == 1:
                    raise
                self._files.remove(file)
                self._folder_problems.append(f'{Path(error.path).name}: {error.reason}')
                continue
            for topic in found:
                self._add_topic(topics, topic)
        return dict(sorted(topics.items()))

    def _add_topic(self, topics: dict[str, BagTopic], topic: BagTopic) -> None:
        known = topics.get(topic.name)
        if known is None:
            topics[topic.name] = topic
        elif known.type != topic.type:
            raise BadFile(
                self.path, f'{topic.name}: found the types {known.type} and {topic.type}, expected one')
        else:
            unknown = known.count is None or topic.count is None
            topics[topic.name] = replace(known, count=None if unknown else known.count + topic.count)

    def messages(
        self, topics: Collection[str] | None = None, unstamped: Collection[str] = ()
    ) -> Iterator[BagMessage]:
        """Messages of some topics, or of all, by their own times.

        Args:
            topics: their names.
            unstamped: topics whose times say when something began to hold, not when it was sent, as those of
                calibrations: ordered by when they were written.

        Raises:
            ValueError: a topic that the recording does not have; at once, not with the first message.
        """
        for name in topics or ():
            if name not in self.topics:
                raise ValueError(
                    f'{self.path}: found no topic {name!r}{nearest_name(name, self.topics)}; there are: '
                    f'{", ".join(self.topics)}')
        in_order = InOrder(self._decoder, self.order, unstamped)
        self.report = in_order.report
        return in_order(self.raw_messages(topics))

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages as they lie in the files, undecoded, unordered."""
        wanted = None if topics is None else set(topics)
        for file in self._files:
            for message in file.messages():
                if wanted is None or message.topic.name in wanted:
                    yield message
