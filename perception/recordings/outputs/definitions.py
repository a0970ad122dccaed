"""The ROS 2 messages that predictions become, and their encoding as ROS 2 writes it (CDR).

No ROS needs to be installed. Standard messages come with rosbags; the two packages below are declared here,
field for field in the order of their releases, since the order is the encoding: vision_msgs 4 (Humble and
later) and foxglove_msgs of the Foxglove SDK.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..storage.records import bags_extra

VISION_MSGS = {
    'ObjectHypothesis': 'string class_id, float64 score',
    'ObjectHypothesisWithPose': 'ObjectHypothesis hypothesis, geometry_msgs/PoseWithCovariance pose',
    'BoundingBox3D': 'geometry_msgs/Pose center, geometry_msgs/Vector3 size',
    'Detection3D':
        'std_msgs/Header header, ObjectHypothesisWithPose[] results, BoundingBox3D bbox, string id',
    'Detection3DArray': 'std_msgs/Header header, Detection3D[] detections'}

_SHAPE = 'geometry_msgs/Pose pose, geometry_msgs/Vector3 size'
_VERTICES = 'geometry_msgs/Point[] points, Color color, Color[] colors, uint32[] indices'
FOXGLOVE_MSGS = {
    'Color': 'float64 r, float64 g, float64 b, float64 a',
    'KeyValuePair': 'string key, string value',
    'ArrowPrimitive':
        'geometry_msgs/Pose pose, float64 shaft_length, float64 shaft_diameter, float64 head_length, '
        'float64 head_diameter, Color color',
    'CubePrimitive': f'{_SHAPE}, Color color',
    'SpherePrimitive': f'{_SHAPE}, Color color',
    'CylinderPrimitive': f'{_SHAPE}, float64 bottom_scale, float64 top_scale, Color color',
    'LinePrimitive':
        f'uint8 type, geometry_msgs/Pose pose, float64 thickness, bool scale_invariant, {_VERTICES}',
    'TriangleListPrimitive': f'geometry_msgs/Pose pose, {_VERTICES}',
    'TextPrimitive':
        'geometry_msgs/Pose pose, bool billboard, float64 font_size, bool scale_invariant, Color color, '
        'string text',
    'ModelPrimitive':
        'geometry_msgs/Pose pose, geometry_msgs/Vector3 scale, Color color, bool override_color, string url, '
        'string media_type, uint8[] data',
    'SceneEntityDeletion': 'builtin_interfaces/Time timestamp, uint8 type, string id',
    'SceneEntity':
        'builtin_interfaces/Time timestamp, string frame_id, string id, '
        'builtin_interfaces/Duration lifetime, bool frame_locked, KeyValuePair[] metadata, '
        'ArrowPrimitive[] arrows, CubePrimitive[] cubes, SpherePrimitive[] spheres, '
        'CylinderPrimitive[] cylinders, LinePrimitive[] lines, TriangleListPrimitive[] triangles, '
        'TextPrimitive[] texts, ModelPrimitive[] models',
    'SceneUpdate': 'SceneEntityDeletion[] deletions, SceneEntity[] entities'}

PACKAGES = {'vision_msgs': VISION_MSGS, 'foxglove_msgs': FOXGLOVE_MSGS}


@dataclass(frozen=True)
class Message:
    """A ROS 2 message in plain values.

    Attributes:
        type: such as 'nav_msgs/msg/OccupancyGrid'.
        fields: by name as the type declares them, messages within it as dictionaries; a field that is left
            out has its default (0, false, '' or nothing).
    """

    type: str
    fields: Mapping[str, Any]


@lru_cache(maxsize=1)
def output_types() -> Any:
    """The store of message types (rosbags' `Typestore`): those of ROS 2 Humble and the packages above.

    Raises:
        MissingReader: the library rosbags is not installed.
    """
    with bags_extra():
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    for package, messages in PACKAGES.items():
        declared = {}
        for name, fields in messages.items():
            declared.update(get_types_from_msg(fields.replace(', ', '\n'), f'{package}/msg/{name}'))
        store.register(declared)
    return store


def definition(type_name: str) -> str:
    """The text of a message's definition with those that it contains, as an MCAP schema has it."""
    return output_types().generate_msgdef(type_name, ros_version=2)[0]


def encode(message: Message) -> bytes:
    """The message as ROS 2 sends and stores it.

    Raises:
        ValueError: a field that the type does not have.
    """
    store = output_types()
    return bytes(store.serialize_cdr(_build(store, message.type, message.fields), message.type))


def _build(store: Any, type_name: str, fields: Mapping[str, Any]) -> Any:
    """The object of a type with these fields and the defaults of all others."""
    declared = dict(store.fielddefs[type_name][1])
    unknown = sorted(set(fields) - set(declared))
    if unknown:
        raise ValueError(f'{type_name}: found the field {unknown[0]!r}, expected some of {list(declared)}')

    values = {name: _value(store, kind, fields.get(name)) for name, kind in declared.items()}
    return store.types[type_name](**values)


def _value(store: Any, kind: tuple, given: Any) -> Any:
    """A field's value; `kind` is rosbags' description: (node, what it is of)."""
    node, inner = kind
    if node.name == 'NAME':
        return _build(store, inner, given or {})
    if node.name == 'BASE':
        return _DEFAULTS.get(inner[0], 0) if given is None else given

    # sequences and arrays: of numbers as numpy arrays, of messages and texts as lists
    (inner_node, element), length = inner
    if inner_node.name == 'BASE' and element[0] != 'string':
        default = np.zeros(length if node.name == 'ARRAY' else 0)
        return np.asarray(default if given is None else given, dtype=element[0])
    return [_value(store, inner[0], one) for one in (() if given is None else given)]


_DEFAULTS = {'string': '', 'bool': False, 'float64': 0.0, 'float32': 0.0}
