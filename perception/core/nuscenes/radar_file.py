"""Radar targets as PCD v0.7 binary, the layout of nuScenes' radar files: 18 fields, 43 bytes a target."""
from __future__ import annotations

import numpy as np

__all__ = ['RADAR_DTYPE', 'radar_pcd_bytes', 'read_radar_pcd']

RADAR_DTYPE = np.dtype(
    [
        ('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('dyn_prop', 'i1'), ('id', '<i2'), ('rcs', '<f4'),
        ('vx', '<f4'), ('vy', '<f4'), ('vx_comp', '<f4'), ('vy_comp', '<f4'), ('is_quality_valid', 'i1'),
        ('ambig_state', 'i1'), ('x_rms', 'i1'), ('y_rms', 'i1'), ('invalid_state', 'i1'), ('pdh0', 'i1'),
        ('vx_rms', 'i1'), ('vy_rms', 'i1')]
)
"""Positions in metres, velocities in m/s, rcs in dBsm; the states are the ARS 408's codes."""


def _header(count: int) -> str:
    fields = [RADAR_DTYPE.fields[name][0] for name in RADAR_DTYPE.names]
    sizes, kinds = (str(f.itemsize) for f in fields), ('F' if f.kind == 'f' else 'I' for f in fields)
    return '\n'.join(
        [
            '# .PCD v0.7 - Point Cloud Data file format', 'VERSION 0.7',
            'FIELDS ' + ' '.join(RADAR_DTYPE.names), 'SIZE ' + ' '.join(sizes), 'TYPE ' + ' '.join(kinds),
            'COUNT' + ' 1' * len(fields), f'WIDTH {count}', 'HEIGHT 1', 'VIEWPOINT 0 0 0 1 0 0 0',
            f'POINTS {count}', 'DATA binary', '']
    )


def radar_pcd_bytes(targets_P: np.ndarray) -> bytes:
    """A whole file. No targets become one target of NaN, which is how nuScenes' reader spells "none".

    Args:
        targets_P: (P,) of `RADAR_DTYPE`.

    Raises:
        ValueError: another dtype was given.
    """
    targets = np.asarray(targets_P)
    if targets.dtype != RADAR_DTYPE or targets.ndim != 1:
        raise ValueError(
            f'radar targets: expected (P,) of RADAR_DTYPE, found {targets.shape} of {targets.dtype}'
        )
    if not len(targets):
        targets = np.zeros(1, RADAR_DTYPE)
        for name in ('x', 'y', 'z', 'rcs', 'vx', 'vy', 'vx_comp', 'vy_comp'):
            targets[name] = np.nan
    return _header(len(targets)).encode('ascii') + targets.tobytes() + b'\n'


def read_radar_pcd(content: bytes) -> np.ndarray:
    """The (P,) targets of a file written by `radar_pcd_bytes`, unfiltered.

    Raises:
        ValueError: the header is not that of a radar file, or bytes are missing.
    """
    head, mark, body = content.partition(b'DATA binary\n')
    lines = dict(line.split(' ', 1) for line in head.decode('ascii').splitlines() if ' ' in line)
    if not mark or lines.get('FIELDS', '').split() != list(RADAR_DTYPE.names):
        raise ValueError(f'radar PCD: expected the fields {RADAR_DTYPE.names}, found {lines.get("FIELDS")!r}')
    count = int(lines['POINTS'])
    if len(body) < count * RADAR_DTYPE.itemsize:
        raise ValueError(
            f'radar PCD: {count} points need {count * RADAR_DTYPE.itemsize} bytes, found {len(body)}'
        )
    targets = np.frombuffer(body, RADAR_DTYPE, count)
    return targets[~np.isnan(targets['x'])]
