"""Radar messages to targets in nuScenes' columns.

radar_msgs RadarScan and RadarTracks, a PointCloud2 with named fields, and any message with a list of objects
whose fields a mapping names (ars_40X and its like). Letters: P targets.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core.nuscenes.radar_file import RADAR_DTYPE
from .points import cloud_fields
from .values import BadMessage, nested

MOST_TARGETS = 100_000
VALID_STATES = {'ambig_state': 3, 'invalid_state': 0, 'dyn_prop': 0, 'is_quality_valid': 1}
"""The ARS 408's codes of a good target; the dataset leaves others out."""
FIELDS = ('x', 'y', 'z', 'vx', 'vy', 'doppler', 'rcs', 'range', 'azimuth', 'elevation', *VALID_STATES)
"""What a mapping may name: metres, m/s, dBsm, radians, codes."""
_CLOUD_NAMES = {
    'x': ('x',), 'y': ('y',), 'z': ('z',), 'vx': ('vx',), 'vy': ('vy',), 'rcs': ('rcs', 'RCS', 'power'),
    'doppler': ('doppler', 'doppler_velocity', 'velocity', 'v_r', 'range_rate'),
    **{name: (name,) for name in VALID_STATES}}


def radar_targets(
    message: Any,
    own_velocity_3: np.ndarray,
    fields: Mapping[str, str] | None = None,
    compensated: bool = False,
) -> np.ndarray:
    """The targets of one measurement.

    Args:
        message: RadarScan, RadarTracks, PointCloud2, or another one with `fields`.
        own_velocity_3: the radar's own velocity over ground (m/s) in its own axes.
        fields: of `FIELDS`, our name -> the message's; `list` names the field with the objects where it is
            neither of those types. Paths have dots.
        compensated: the message's velocities are over ground already.

    Returns:
        `(P,)` of `RADAR_DTYPE`, in the radar's axes: x forward, y left. vx, vy as measured from the moving
        car, vx_comp, vy_comp with the car's own motion taken away. Targets that are not finite are left out.

    Raises:
        BadMessage: another type without `fields`, a field that is not there, or nothing about velocities.
    """
    columns = _columns(message, dict(fields or {}))
    xyz = _places(columns)
    count = len(xyz)
    own = np.asarray(own_velocity_3, dtype=np.float64)

    if 'doppler' in columns:
        # a target's motion is known along the ray alone
        ray = xyz / np.maximum(np.linalg.norm(xyz, axis=1, keepdims=True), 1e-9)
        given = columns['doppler'][:, None] * ray
        carried = (ray @ own)[:, None] * ray
    elif {'vx', 'vy'} <= columns.keys():
        given = np.stack([columns['vx'], columns['vy'], np.zeros(count)], 1)
        carried = np.broadcast_to(own, (count, 3))
    else:
        # zeros would say that everything drives along with the car
        raise BadMessage(f'radar: expected the velocities vx and vy, or doppler, found {", ".join(columns)}')
    seen, over_ground = (given - carried, given) if compensated else (given, given + carried)

    targets = np.zeros(count, RADAR_DTYPE)
    for name, values in zip('xyz', xyz.T, strict=True):
        targets[name] = values
    targets['rcs'] = columns.get('rcs', np.zeros(count))
    for axis, name in enumerate(('vx', 'vy')):
        targets[name], targets[f'{name}_comp'] = seen[:, axis], over_ground[:, axis]
    for name, value in VALID_STATES.items():
        targets[name] = np.clip(np.nan_to_num(columns.get(name, np.full(count, value))), -128, 127)
    targets['id'] = np.arange(count) % 32768
    finite = np.all([np.isfinite(targets[name]) for name in ('x', 'y', 'z', 'vx_comp', 'vy_comp', 'rcs')], 0)
    return targets[finite]


def _places(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """float64 `(P, 3)` of x, y (, z), or of range, azimuth (, elevation)."""
    if {'x', 'y'} <= columns.keys():
        x, y = columns['x'], columns['y']
        return np.stack([x, y, columns.get('z', np.zeros(len(x)))], 1)
    if {'range', 'azimuth'} <= columns.keys():
        distance, azimuth = columns['range'], columns['azimuth']
        elevation = columns.get('elevation', np.zeros(len(distance)))
        level = distance * np.cos(elevation)
        return np.stack(
            [level * np.cos(azimuth), level * np.sin(azimuth), distance * np.sin(elevation)], 1)
    found = ', '.join(columns) or 'nothing'
    raise BadMessage(f'radar: expected x and y, or range and azimuth, found {found}')


def _columns(message: Any, fields: dict[str, str]) -> dict[str, np.ndarray]:
    """{our field: float64 (P,)} of whatever message it is."""
    kind = getattr(message, '__msgtype__', '')
    if kind.endswith('PointCloud2'):
        return _cloud_columns(cloud_fields(message), fields)
    if kind.endswith('RadarScan') and not fields:
        fields = {
            'list': 'returns', 'range': 'range', 'azimuth': 'azimuth', 'elevation': 'elevation',
            'doppler': 'doppler_velocity', 'rcs': 'amplitude'}
    elif kind.endswith('RadarTracks') and not fields:
        fields = {'list': 'tracks', **{axis: f'position.{axis}' for axis in 'xyz'}, 'vx': 'velocity.x',
                  'vy': 'velocity.y'}
    if 'list' not in fields:
        raise BadMessage(
            f'radar: found a message of type {kind or type(message).__name__}; name its list and fields in '
            f'the mapping (fields: list, {", ".join(FIELDS)})')

    where = fields.pop('list')
    objects = nested(message, where)
    if not isinstance(objects, list):
        raise BadMessage(f'radar.{where}: found {type(objects).__name__}, expected a list of messages')
    if len(objects) > MOST_TARGETS:
        raise BadMessage(f'radar: found {len(objects)} targets, expected at most {MOST_TARGETS}')
    return {
        ours: np.array([_number(item, theirs) for item in objects], dtype=np.float64)
        for ours, theirs in fields.items()}


def _number(item: Any, path: str) -> float:
    value = nested(item, path)
    if not isinstance(value, (int, float, np.number)):
        raise BadMessage(f'radar.{path}: found {type(value).__name__}, expected a number')
    return float(value)


def _cloud_columns(found: Mapping[str, np.ndarray], fields: dict[str, str]) -> dict[str, np.ndarray]:
    missing = [theirs for theirs in fields.values() if theirs not in found]
    if missing:
        raise BadMessage(f'radar: PointCloud2 has no field {missing[0]!r}, there are {", ".join(found)}')
    for ours, usual in _CLOUD_NAMES.items():
        name = next((name for name in usual if name in found), None)
        if name is not None:
            fields.setdefault(ours, name)
    if {'vx', 'vy'} <= fields.keys():
        fields.pop('doppler', None)
    return {ours: found[theirs].astype(np.float64) for ours, theirs in fields.items()}
