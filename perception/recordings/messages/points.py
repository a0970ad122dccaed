"""sensor_msgs PointCloud2 to columns and back. Letters: P points."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .values import BadMessage, raw_bytes, stamp_of

DATATYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}
"""PointField's codes."""
MOST_POINTS = 20_000_000
MOST_FIELDS = 100
TIME_NAMES = ('t', 'time', 'timestamp', 'time_stamp', 'offset_time', 'timeOffset')
INTENSITY_NAMES = ('intensity', 'i', 'reflectivity')
RING_NAMES = ('ring', 'channel', 'laser_id', 'line')
LONGEST_SWEEP_S = 2.0
"""Time between two points of one sweep."""


@dataclass(frozen=True)
class PointColumns:
    """A sweep.

    Attributes:
        xyz_P3: float32 metres in the sensor's frame.
        intensity_P, ring_P: float32; zeros where the message has none.
        time_s_P: seconds since the message's own time, float64; None where it has none.
        dropped: points that were not finite and are left out.
        extra: {name: (P,)} of other fields that were asked for.
    """

    xyz_P3: np.ndarray
    intensity_P: np.ndarray
    ring_P: np.ndarray
    time_s_P: np.ndarray | None = None
    dropped: int = 0
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


def cloud_fields(message: Any) -> dict[str, np.ndarray]:
    """{field: (P,)} of all fields of a PointCloud2 with one number each, views into its bytes.

    Raises:
        BadMessage: its fields, sizes and bytes do not fit together.
    """
    step, row_step = int(message.point_step), int(message.row_step)
    height, width = int(message.height), int(message.width)
    if not 0 <= height * width <= MOST_POINTS or len(message.fields) > MOST_FIELDS:
        raise BadMessage(f'PointCloud2: found {width} x {height} points, expected at most {MOST_POINTS}')
    dtype = np.dtype(_layout(message, step))

    data = raw_bytes('PointCloud2.data', message.data)
    row_step = row_step or width * step
    needed = row_step * (height - 1) + width * step if height * width else 0
    if row_step < width * step or len(data) < needed:
        raise BadMessage(
            f'PointCloud2: found rows of {row_step} bytes and {len(data)} bytes of data, expected {needed} '
            f'for {width} x {height} points of {step} bytes')

    if not height * width:
        points = np.zeros(0, dtype)
    elif row_step == width * step or height == 1:
        points = data[:width * step * height].view(dtype)
    else:
        rows = np.lib.stride_tricks.as_strided(data, (height, width * step), (row_step, 1), writeable=False)
        points = np.ascontiguousarray(rows).reshape(-1).view(dtype)
    return {name: points[name] for name in dtype.names}


def _layout(message: Any, step: int) -> dict[str, Any]:
    """The fields as numpy describes a record; those of several numbers are passed over."""
    order = '>' if message.is_bigendian else '<'
    names, formats, offsets = [], [], []
    for entry in message.fields:
        if entry.datatype not in DATATYPES:
            raise BadMessage(
                f'PointCloud2.fields: {entry.name!r:.40} has the type {entry.datatype}, expected 1 to 8')
        kind = np.dtype(order + DATATYPES[entry.datatype])
        if entry.offset + kind.itemsize * max(1, entry.count) > step:
            raise BadMessage(
                f'PointCloud2.fields: {entry.name!r:.40} lies at byte {entry.offset}, a point has {step}')
        if entry.count <= 1 and entry.name and entry.name not in names:
            names.append(entry.name)
            formats.append(kind)
            offsets.append(entry.offset)

    if not names or step > 65536:
        raise BadMessage(f'PointCloud2: found no field of one number in points of {step} bytes')
    return {'names': names, 'formats': formats, 'offsets': offsets, 'itemsize': step}


def point_columns(message: Any, names: Mapping[str, str] | None = None) -> PointColumns:
    """A PointCloud2 as columns; points that are not finite are left out.

    Args:
        message: the cloud.
        names: our name (x, y, z, intensity, ring, time, or any other, which becomes `extra`) -> the
            message's, where it is none of the usual ones.

    Raises:
        BadMessage: a coordinate, or a field that `names` gives, is not there; or times that are none.
    """
    columns, names = cloud_fields(message), dict(names or {})
    for ours, theirs in names.items():
        if theirs not in columns:
            raise BadMessage(
                f'PointCloud2.fields: found no {theirs!r} for {ours}, there are {", ".join(columns)}')

    xyz = [_column(columns, names, axis, (axis,)) for axis in 'xyz']
    if any(axis is None for axis in xyz):
        raise BadMessage(f'PointCloud2.fields: expected x, y and z, found {", ".join(columns)}')
    xyz_P3 = np.stack([axis.astype(np.float32) for axis in xyz], 1)
    keep = np.isfinite(xyz_P3).all(1)

    def chosen(name: str, usual: tuple[str, ...]) -> np.ndarray:
        found = _column(columns, names, name, usual)
        values = np.zeros(len(keep), np.float32) if found is None else found.astype(np.float32)
        return np.nan_to_num(values[keep], nan=0.0, posinf=0.0, neginf=0.0)

    time = _column(columns, names, 'time', TIME_NAMES)
    known = ('x', 'y', 'z', 'intensity', 'ring', 'time')
    return PointColumns(
        xyz_P3[keep], chosen('intensity', INTENSITY_NAMES), chosen('ring', RING_NAMES),
        None if time is None else relative_times(time[keep], stamp_of(message.header)),
        int((~keep).sum()),
        {ours: columns[theirs][keep] for ours, theirs in names.items() if ours not in known})


def _column(
    columns: Mapping[str, np.ndarray], names: Mapping[str, str], ours: str, usual: tuple[str, ...]
) -> np.ndarray | None:
    if ours in names:
        return columns[names[ours]]
    return next((columns[name] for name in usual if name in columns), None)


def relative_times(times_P: np.ndarray, stamp_ns: int) -> np.ndarray:
    """Seconds since the message's time, of whatever its driver calls time.

    Whole numbers are nanoseconds, real numbers seconds; both may count from the message's time (Ouster `t`,
    Velodyne `time`, Livox `offset_time`) or from 1970 (Hesai and RoboSense `timestamp`), real ones also in
    nanoseconds then.

    Raises:
        BadMessage: read so, they do not lie within one sweep of the message's time.
    """
    if not len(times_P):
        return np.zeros(0)

    if times_P.dtype.kind in 'iu':
        whole = times_P.astype(np.int64)
        seconds = (whole - stamp_ns if whole.max() > 10 ** 17 else whole) * 1e-9
    else:
        seconds = times_P.astype(np.float64)
        largest = np.abs(seconds).max()
        if largest > 1e17:
            seconds = (seconds - stamp_ns) * 1e-9
        elif largest > 1e8:
            seconds = seconds - stamp_ns * 1e-9

    if not np.isfinite(seconds).all() or np.abs(seconds).max() > LONGEST_SWEEP_S:
        raise BadMessage(
            f'PointCloud2: its times lie {seconds.min():.6g} to {seconds.max():.6g} s from its own, expected '
            f'within {LONGEST_SWEEP_S} s (whole numbers are ns, real ones s)')
    return seconds
