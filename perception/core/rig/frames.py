"""Coordinate frames that hang on each other, of a URDF or of a tf tree: where one lies in another."""
from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import invert, make_transform, quaternion_to_matrix
from ..reading import BadFile, read_file
from .plain import load_plain
from .xml import Element, parse_xml

__all__ = ['Edge', 'FrameTree', 'load_frames']

TREE_MIB = 16
MOST_FRAMES = 10_000
FARTHEST_M = 1e5


@dataclass(frozen=True)
class Edge:
    """How one frame hangs on another.

    Attributes:
        parent, child: names of frames.
        parent_T_child: (4, 4), moves points of the child's frame into the parent's, metres.
    """

    parent: str
    child: str
    parent_T_child: np.ndarray


class FrameTree:
    """Frames of one car in one tree.

    Args:
        source: the file, for messages.
        edges: every frame but one hangs on exactly one other.

    Raises:
        BadFile: a frame hangs on two others, in a circle, or there are two roots; names them.
    """

    def __init__(self, source: str | Path, edges: Iterable[Edge]) -> None:
        self.source = source
        self._above: dict[str, Edge] = {}
        for edge in edges:
            other = self._above.get(edge.child)
            if other is not None:
                raise BadFile(
                    source, f'frame {edge.child!r} hangs on {other.parent!r} and on {edge.parent!r}, '
                    'expected one')
            self._above[edge.child] = edge

        names = [edge.parent for edge in self._above.values()]
        self.frames = tuple(dict.fromkeys([*names, *self._above]))
        if not self.frames or len(self.frames) > MOST_FRAMES:
            raise BadFile(source, f'found {len(self.frames)} frames, expected 1 to {MOST_FRAMES}')
        self._check_circles()
        self._check_roots()

    def pose(self, base: str, frame: str) -> np.ndarray:
        """`base_T_frame` (4, 4).

        Raises:
            BadFile: a frame is not there; names the nearest that is.
        """
        return invert(self._root_T(base)) @ self._root_T(frame)

    def _root_T(self, frame: str) -> np.ndarray:
        if frame not in self.frames:
            near = difflib.get_close_matches(frame, self.frames, 1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            known = ', '.join(sorted(self.frames)[:30])
            raise BadFile(self.source, f'found no frame {frame!r}, expected one of {known}{hint}')

        root_T_frame = np.eye(4)
        while frame in self._above:
            edge = self._above[frame]
            root_T_frame, frame = edge.parent_T_child @ root_T_frame, edge.parent
        return root_T_frame

    def _check_circles(self) -> None:
        rooted: set[str] = set()
        for start in self._above:
            path: list[str] = []
            frame = start
            while frame in self._above and frame not in rooted:
                if frame in path:
                    circle = ' -> '.join([*path[path.index(frame):], frame])
                    raise BadFile(self.source, f'frames hang on each other in a circle: {circle}')
                path.append(frame)
                frame = self._above[frame].parent
            rooted.update(path)

    def _check_roots(self) -> None:
        roots = [name for name in self.frames if name not in self._above]
        if len(roots) > 1:
            raise BadFile(
                self.source, f'found {len(roots)} frames that hang on nothing '
                f'({", ".join(sorted(roots)[:10])}), expected one root; a transform between them is missing')


# -------------------------------------------------------------------- files

def load_frames(path: str | Path) -> FrameTree:
    """Read the tree of a URDF (`.urdf`, `.xml`), or of a list of transforms as JSON or YAML.

    A list has `{"frame_id", "child_frame_id", "translation": [x, y, z] (m), "rotation": [x, y, z, w]}`, or
    both as objects with these names, as in ROS' `geometry_msgs/TransformStamped`, whose `header` and
    `transform` may stay around them; also below `transforms`, as in `tf2_msgs/TFMessage`. A URDF's moving
    joints are taken at zero.

    Raises:
        BadFile: not readable as that, or no tree; names file and frame.
    """
    path = Path(path)
    if path.suffix.lower() in ('.urdf', '.xml'):
        return _urdf_tree(path)

    content = load_plain(path)
    if isinstance(content, dict):
        content = content.get('transforms')
    if not isinstance(content, list):
        raise BadFile(path, 'found no list of transforms, expected one, or one below "transforms"')
    return FrameTree(path, [_edge(path, i, record) for i, record in enumerate(content)])


def _edge(path: Path, index: int, record: Any) -> Edge:
    where = f'transform {index}'
    if not isinstance(record, Mapping):
        raise BadFile(path, f'{where}: found {record!r:.100}, expected an object')

    header, transform = record.get('header', record), record.get('transform', record)
    for part in (header, transform):
        if not isinstance(part, Mapping):
            raise BadFile(path, f'{where}: found {part!r:.100}, expected an object')
    parent, child = header.get('frame_id'), record.get('child_frame_id')
    for field, name in (('frame_id', parent), ('child_frame_id', child)):
        if not isinstance(name, str) or not name.strip('/'):
            raise BadFile(path, f'{where}.{field}: found {name!r:.100}, expected the name of a frame')

    place = f'{where} ({parent} to {child})'
    xyz_m = _numbers(path, f'{place}.translation', transform.get('translation'), 'xyz')
    xyzw = _numbers(path, f'{place}.rotation', transform.get('rotation'), 'xyzw')
    if abs(np.linalg.norm(xyzw) - 1) > 1e-2:
        raise BadFile(
            path, f'{place}.rotation: found {xyzw}, expected a quaternion (x, y, z, w) of length 1')
    rotation = quaternion_to_matrix(np.roll(xyzw, 1))
    return Edge(parent.strip('/'), child.strip('/'), make_transform(rotation, np.array(xyz_m)))


def _numbers(path: Path, place: str, value: Any, names: str) -> list[float]:
    if isinstance(value, Mapping) and set(value) == set(names):
        value = [value[name] for name in names]
    numbers = isinstance(value, list) and len(value) == len(names) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < FARTHEST_M for v in value)
    if not numbers:
        raise BadFile(path, f'{place}: found {value!r:.100}, expected finite numbers {", ".join(names)}')
    return [float(v) for v in value]


def _urdf_tree(path: Path) -> FrameTree:
    root = parse_xml(path, read_file(path, TREE_MIB, 'XML'))
    if root.tag != 'robot':
        raise BadFile(path, f'found <{root.tag}>, expected a URDF, whose root is <robot>')

    links = [link.attributes.get('name', '') for link in root.children if link.tag == 'link']
    edges = []
    for joint in root.children:
        if joint.tag == 'joint':
            edge = _joint_edge(path, joint)
            for name in (edge.parent, edge.child):
                if name not in links:
                    joint_name = joint.attributes.get('name')
                    raise BadFile(path, f'joint {joint_name!r}: found no <link name="{name}">, expected one')
            edges.append(edge)

    tree = FrameTree(path, edges)
    alone = sorted(set(links) - set(tree.frames))
    if alone:
        raise BadFile(path, f'links {", ".join(alone[:10])} hang on no joint, expected one tree')
    return tree


def _joint_edge(path: Path, joint: Element) -> Edge:
    where = f'joint {joint.attributes.get("name")!r}'
    parent, child = (
        part.attributes.get('link') if (part := joint.child(tag)) is not None else None
        for tag in ('parent', 'child'))
    if not parent or not child:
        raise BadFile(path, f'{where}: expected <parent link=...> and <child link=...>')

    origin = joint.child('origin')
    words = {} if origin is None else origin.attributes
    xyz_m, rpy = (_triple(path, f'{where}.{name}', words.get(name, '0 0 0')) for name in ('xyz', 'rpy'))
    return Edge(parent, child, make_transform(fixed_axes_rotation(rpy), np.array(xyz_m)))


def _triple(path: Path, place: str, text: str) -> list[float]:
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != 3 or not all(abs(value) < FARTHEST_M for value in values):
        raise BadFile(path, f'{place}: found {text!r:.100}, expected three finite numbers')
    return values


def fixed_axes_rotation(rpy: Iterable[float]) -> np.ndarray:
    """Rotation (3, 3) of a URDF's roll, pitch and yaw (rad) about the fixed axes x, y, z, in this order."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in rpy)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1.0]])
    return about_z @ about_y @ about_x
