"""The map and the occupied space as messages."""
from __future__ import annotations

import numpy as np

from ...core.contracts import MapSegmentation, Occupancy
from ...core.protocols import (
    OCCUPANCY_FREE,
    OCCUPANCY_IGNORED,
    OCCUPANCY_LOW_M,
    OCCUPANCY_SHAPE_XYZ,
    OCCUPANCY_VOXEL_M,
)
from ...visualization import palette
from .definitions import Message
from .parts import OutputOptions, header, pose, time_of

_UINT8, _UINT32, _FLOAT32 = 2, 6, 7
_KINDS = {'f4': _FLOAT32, 'u4': _UINT32, 'u1': _UINT8}
VOXEL_POINT = np.dtype([
    ('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<u4'), ('confidence', '<f4'), ('label', 'u1')])
"""A point of `voxel_cloud`."""


def map_grids(prediction: MapSegmentation, stamp_ns: int, options: OutputOptions) -> dict[str, Message]:
    """{class: `nav_msgs/OccupancyGrid`} whose cells are probabilities in per cent.

    Raises:
        ValueError: cells that are not square, for which the message has no place.
    """
    (x_low, x_high), (y_low, y_high) = prediction.x_range_m, prediction.y_range_m
    rows, columns = prediction.probabilities_6YX.shape[1:]
    cell_m = (x_high - x_low) / columns
    if not np.isclose(cell_m, (y_high - y_low) / rows):
        raise ValueError(
            f'MapSegmentation: expected square cells, found {cell_m:g} m by {(y_high - y_low) / rows:g} m')

    # both run along +x within a row and have rows along +y
    info = {
        'map_load_time': time_of(stamp_ns), 'resolution': cell_m, 'width': columns, 'height': rows,
        'origin': pose((x_low, y_low, 0))}
    per_cent = np.rint(np.nan_to_num(prediction.probabilities_6YX) * 100).clip(0, 100).astype(np.int8)
    return {
        name: Message('nav_msgs/msg/OccupancyGrid', {
            'header': header(stamp_ns, options.frame_id), 'info': info, 'data': cells.ravel()})
        for name, cells in zip(prediction.classes, per_cent, strict=True)}


def voxel_cloud(prediction: Occupancy, stamp_ns: int, options: OutputOptions) -> Message:
    """The centres of all voxels that are not free as `sensor_msgs/PointCloud2`.

    A point has x, y, z, its class' colour (rgb), the confidence (1 where the prediction has none) and the
    class (label, into `OCCUPANCY_CLASSES`). Drawn as boxes of 0.4 m, they are the voxels.

    Raises:
        ValueError: another grid than Occ3D's.
    """
    semantics = prediction.semantics_XYZ
    if semantics.shape != OCCUPANCY_SHAPE_XYZ:
        raise ValueError(f'Occupancy: expected {OCCUPANCY_SHAPE_XYZ} voxels, found {semantics.shape}')
    taken = (semantics != OCCUPANCY_FREE) & (semantics != OCCUPANCY_IGNORED)
    labels = semantics[taken]

    points = np.zeros(len(labels), VOXEL_POINT)
    centres = (np.argwhere(taken) + 0.5) * OCCUPANCY_VOXEL_M + OCCUPANCY_LOW_M
    points['x'], points['y'], points['z'] = centres.T
    points['rgb'] = (palette.occupancy_colours().astype(np.uint32) @ [1 << 16, 1 << 8, 1])[labels]
    points['label'] = labels
    confidence = prediction.confidence_XYZ
    points['confidence'] = 1 if confidence is None else confidence[taken]

    return Message('sensor_msgs/msg/PointCloud2', {
        'header': header(stamp_ns, options.frame_id), 'height': 1, 'width': len(points),
        'fields': point_fields(VOXEL_POINT), 'is_dense': True, 'point_step': VOXEL_POINT.itemsize,
        'row_step': points.nbytes, 'data': np.frombuffer(points.tobytes(), np.uint8)})


def point_fields(kind: np.dtype) -> list[dict[str, object]]:
    """`sensor_msgs/PointField[]` of a structured type."""
    return [
        {'name': name, 'offset': offset, 'datatype': _KINDS[field.str.lstrip('<|')], 'count': 1}
        for name, (field, offset) in kind.fields.items()]
