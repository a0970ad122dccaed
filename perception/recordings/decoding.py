"""Bytes of a message to an object with its fields, and the time in its header without decoding the rest.

Types that every ROS has come from the library rosbags' own tables, radar_msgs from here, and all others from
the text that the recording carries, which is checked before code is made from it.
"""
from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.reading import DAMAGE
from .storage.records import BagTopic, bags_extra

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

MOST_TYPES = 200
MOST_FIELDS = 500
LONGEST_FIXED_ARRAY = 4096
"""Of messages or texts inside a message: code is made for each."""

RADAR_TYPES = {
    'radar_msgs/msg/RadarReturn': (
        'float32 range\nfloat32 azimuth\nfloat32 elevation\nfloat32 doppler_velocity\nfloat32 amplitude'),
    'radar_msgs/msg/RadarScan': 'std_msgs/Header header\nradar_msgs/RadarReturn[] returns',
    'radar_msgs/msg/RadarTrack': (
        'unique_identifier_msgs/UUID uuid\ngeometry_msgs/Point position\ngeometry_msgs/Vector3 velocity\n'
        'geometry_msgs/Vector3 acceleration\ngeometry_msgs/Vector3 size\nuint16 classification\n'
        'float32[6] position_covariance\nfloat32[6] velocity_covariance\nfloat32[6] acceleration_covariance\n'
        'float32[6] size_covariance'),
    'radar_msgs/msg/RadarTracks': 'std_msgs/Header header\nradar_msgs/RadarTrack[] tracks'}
"""https://github.com/ros-perception/radar_msgs, version 0.2: the layout on the wire."""

_NAME = re.compile(r'[A-Za-z]\w{0,99}')
_TYPE = re.compile(r'[A-Za-z]\w{0,99}(/[A-Za-z]\w{0,99}){1,2}')
_SIMPLE_ENCODINGS = {'cdr': 2, 'ros1': 1}


class UndecodableMessage(ValueError):
    """Bytes that are no message of their topic's type, or a type that nothing describes."""


class MessageDecoder:
    """Decodes the messages of one recording; what a type needs is prepared once.

    Raises:
        MissingReader: the library rosbags is not installed.
    """

    def __init__(self) -> None:
        with bags_extra():
            import rosbags.typesys  # noqa: F401
        self._stores: dict[str, Typestore] = {}
        self._stamps: dict[tuple[str, str], int | None] = {}

    def decode(self, topic: BagTopic, data: bytes) -> Any:
        """The message as an object whose attributes are its fields, numbers in numpy arrays.

        Raises:
            UndecodableMessage: names the topic and its type.
        """
        store = self._store_of(topic)
        try:
            if topic.encoding == 'ros1':
                return store.deserialize_ros1(data, topic.type)
            return store.deserialize_cdr(data, topic.type)
        except Exception as error:  # noqa: BLE001 - the library's code raises whatever damage leads to
            if not isinstance(error, DAMAGE) and type(error).__module__.split('.')[0] != 'rosbags':
                raise
            words = ' '.join(str(error).split())[:200]
            raise UndecodableMessage(
                f'{topic.name}: {len(data)} bytes are no {topic.type}: {type(error).__name__} {words}'
            ) from error

    def stamp_ns(self, topic: BagTopic, data: bytes) -> int | None:
        """The time in the message's header (ns); None where its type has no header or it is zero."""
        key = (topic.encoding, topic.type)
        if key not in self._stamps:
            self._stamps[key] = self._stamp_place(topic)
        place = self._stamps[key]
        if place is None or len(data) < place + 8:
            return None

        big = topic.encoding == 'cdr' and not data[1] & 1
        seconds, nanoseconds = struct.unpack_from('>iI' if big else '<iI', data, place)
        stamp = seconds * 1_000_000_000 + nanoseconds
        return stamp if stamp > 0 and nanoseconds < 1_000_000_000 else None

    def _stamp_place(self, topic: BagTopic) -> int | None:
        """Where a header's seconds lie: behind the 4 bytes that begin CDR, or ROS 1's running number."""
        try:
            fields = self._store_of(topic).fielddefs[topic.type][1]
        except (UndecodableMessage, LookupError):
            return None
        starts_with_header = bool(fields) and fields[0][1][1] == 'std_msgs/msg/Header'
        return 4 if starts_with_header else None

    def _store_of(self, topic: BagTopic) -> Typestore:
        """The types of a topic's ROS version, with its own among them."""
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        if topic.encoding not in _SIMPLE_ENCODINGS:
            raise UndecodableMessage(
                f'{topic.name}: found messages in the encoding {topic.encoding!r}, expected "cdr" (ROS 2) or '
                '"ros1"')
        if topic.encoding not in self._stores:
            store = get_typestore(Stores.ROS2_HUMBLE if topic.encoding == 'cdr' else Stores.ROS1_NOETIC)
            for name, text in RADAR_TYPES.items():
                # ROS 1 bags carry their types with them
                if topic.encoding == 'cdr':
                    store.register(get_types_from_msg(text, name))
            self._stores[topic.encoding] = store

        store = self._stores[topic.encoding]
        if topic.type not in store.fielddefs:
            store.register(_types_of(topic, store.fielddefs))
        return store


def _types_of(topic: BagTopic, known: Mapping[str, Any]) -> dict[str, Any]:
    """The types that a topic's definition adds to the known ones.

    Raises:
        UndecodableMessage: there is no definition, or none that can be read.
    """
    from rosbags.typesys import TypesysError, get_types_from_idl, get_types_from_msg

    if not topic.definition:
        raise UndecodableMessage(
            f'{topic.name}: the recording does not describe its type {topic.type}, and it is none of those '
            'that every ROS has')
    try:
        if topic.definition_format == 'ros2idl':
            parts = topic.definition.split('=' * 80 + '\n')
            texts = [part.split('\n', 1)[1] if part.startswith('IDL: ') else part for part in parts if part]
            types = {name: fields for text in texts for name, fields in get_types_from_idl(text).items()}
        else:
            types = get_types_from_msg(topic.definition, topic.type)
    except (TypesysError, *DAMAGE) as error:
        raise UndecodableMessage(
            f'{topic.name}: the definition of {topic.type} in the recording cannot be read: {error}'
        ) from error

    added = {name: fields for name, fields in types.items() if name not in known}
    check_types(topic, added)
    return added


def check_types(topic: BagTopic, types: Mapping[str, Any]) -> None:
    """Refuse types from a recording whose names are no names or whose arrays would be endless code.

    Args:
        topic: whose definition they are of.
        types: type -> (constants, fields), as the library rosbags writes them.

    Raises:
        UndecodableMessage: names the type and the field.
    """
    if len(types) > MOST_TYPES or topic.type not in types:
        raise UndecodableMessage(
            f'{topic.name}: found a definition of {len(types)} types, expected {topic.type} and at most '
            f'{MOST_TYPES}')

    for name, (constants, fields) in types.items():
        if not _TYPE.fullmatch(name) or len(fields) > MOST_FIELDS or len(constants) > MOST_FIELDS:
            raise UndecodableMessage(
                f'{topic.name}: found the type {name!r:.120} of {len(fields)} fields, expected '
                f'package/msg/Name and at most {MOST_FIELDS}')
        for field, *_ in (*constants, *fields):
            if not _NAME.fullmatch(field):
                raise UndecodableMessage(f'{topic.name}: {name}: found {field!r:.120}, expected a name')
        for field, kind in fields:
            _check_field(topic, f'{name}.{field}', kind)


def _check_field(topic: BagTopic, place: str, kind: Any) -> None:
    """A field's description: (1, (base, limit)), (2, type), (3, (inner, length)) or (4, (inner, limit))."""
    form, content = kind
    if form in (3, 4):
        inner, length = content
        is_plain = inner[0] == 1 and inner[1][0] not in ('string', 'wstring')
        if form == 3 and length > LONGEST_FIXED_ARRAY and not is_plain:
            raise UndecodableMessage(
                f'{topic.name}: {place}: found an array of {length}, expected {LONGEST_FIXED_ARRAY} at most')
        _check_field(topic, place, inner)
    elif form == 2 and not _TYPE.fullmatch(content):
        raise UndecodableMessage(f'{topic.name}: {place}: found the type {content!r:.120}')
