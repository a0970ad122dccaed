"""What every kind of recording gives: topics, and messages as bytes."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

LARGEST_MESSAGE_MIB = 512
"""Of one message; an image of 100 megapixels in 16-bit colour has 600 MB and is none that a car takes."""

HOW_TO_INSTALL = "recordings need the extra [bags]: pip install 'perception[bags]' (rosbags, mcap)"


class MissingReader(RuntimeError):
    """A library of the extra [bags] is not installed."""


@contextmanager
def bags_extra(path: str | Path = '') -> Iterator[None]:
    """Import libraries of the extra [bags] inside.

    Args:
        path: what needs them, for the message.

    Raises:
        MissingReader: one is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingReader(f'{path}: {HOW_TO_INSTALL}' if path else HOW_TO_INSTALL) from error


@dataclass(frozen=True)
class BagTopic:
    """A topic of a recording.

    Attributes:
        name: for example `/camera/front/image_raw`.
        type: of its messages, written as `sensor_msgs/msg/Image` whatever the ROS version.
        encoding: of the bytes: `cdr` (ROS 2), `ros1`, or what an MCAP file says.
        definition: text of the message type where the recording carries it, else ''.
        definition_format: `ros2msg`, `ros2idl`, `ros1msg`, or ''.
        count: number of messages, None where nothing says it.
    """

    name: str
    type: str
    encoding: str
    definition: str = field(default='', repr=False)
    definition_format: str = ''
    count: int | None = None


@dataclass(frozen=True)
class RawMessage:
    """A message as it lies in a file: its topic, when it was written (ns), and its bytes."""

    topic: BagTopic
    log_ns: int
    data: bytes = field(repr=False)


class BagFile(Protocol):
    """One file of a recording.

    Attributes:
        problems: what was lost, in words; complete once `messages` has ended.
    """

    problems: list[str]

    def topics(self) -> list[BagTopic]:
        """All topics, also those without a message.

        Raises:
            BadFile: the file is no recording of its kind.
        """
        ...

    def messages(self) -> Iterator[RawMessage]:
        """The messages as they lie in the file, in bounded memory; ends at damage that cannot be passed."""
        ...


def plain_type(name: str) -> str:
    """`sensor_msgs/msg/Image` of `sensor_msgs/Image` (ROS 1) and of itself."""
    parts = name.split('/')
    return f'{parts[0]}/msg/{parts[1]}' if len(parts) == 2 else name
