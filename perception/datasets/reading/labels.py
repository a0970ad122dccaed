"""Label records and label files to the records of `contracts`."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.contracts import (
    NUSCENES_CLASSES,
    BoxLabels,
    DetectionClasses,
    LanePolylines,
    OccupancyLabels,
)
from ...core.protocols import (
    ATTRIBUTES,
    CATEGORY_TO_CLASS,
    LANE_PROTOCOLS,
    OCCUPANCY_CLASSES,
    OCCUPANCY_FREE,
    OCCUPANCY_IGNORED,
    OCCUPANCY_SHAPE_XYZ,
)
from ...core.reading import BadFile, check_array, read_arrays
from ..maps.lane_polylines import lanes_around
from ..maps.map_layers import flat_ego_T_global
from ..maps.published_lanes import published_lanes
from ..maps.scene_map import SceneMap
from .records import BoxRecords, FrameRecord, InfosError

OCCUPANCY_MIB = 64
"""Largest file of voxels, unpacked: four arrays of 0.6 million cells have 3 MiB as bytes."""
_VOXELS = {'semantics': (0, OCCUPANCY_IGNORED), 'mask_lidar': (0, 1), 'mask_camera': (0, 1)}


def box_labels(records: BoxRecords, classes: DetectionClasses = NUSCENES_CLASSES) -> BoxLabels:
    """The boxes of a frame that belong to a detection class.

    Raises:
        ValueError: the category of a box may be of several of the classes.
    """
    labels = np.array([classes.label(name) for name in records.categories], dtype=np.int64)
    attributes = np.array(
        [ATTRIBUTES.index(name) if name in ATTRIBUTES else -1 for name in records.attributes],
        dtype=np.int64)

    boxes = BoxLabels(
        boxes_M9=records.boxes_M9.astype(np.float32),
        labels_M=labels,
        attributes_M=attributes,
        num_lidar_points_M=records.num_lidar_points_M,
        num_radar_points_M=records.num_radar_points_M,
        visibility_M=records.visibility_M,
        instance_tokens=records.instances,
        classes=classes)
    return boxes.select(labels >= 0)


def load_occupancy(path: Path) -> OccupancyLabels:
    """Read Occ3D's `labels.npz`, with `density` where the file has one.

    Raises:
        BadFile: absent, not an npz, or an array missing, of another type or shape than (200, 200, 16), or out
        of range.
    """
    voxels = read_arrays(path, [*_VOXELS, 'density'], OCCUPANCY_MIB)
    for name, limits in _VOXELS.items():
        if name not in voxels:
            raise BadFile(path, f'cannot be read as Occ3D labels: found no array {name!r}')
        check_array(path, name, voxels[name], 'biu', OCCUPANCY_SHAPE_XYZ, limits)

    density = voxels.get('density')
    if density is not None:
        check_array(path, 'density', density, 'f', OCCUPANCY_SHAPE_XYZ, (0, 1))
    unknown = (voxels['semantics'] > OCCUPANCY_FREE) & (voxels['semantics'] < OCCUPANCY_IGNORED)
    if unknown.any():
        found = voxels['semantics'][unknown][0]
        raise BadFile(path, f'semantics: found class {found}, expected 0 to {OCCUPANCY_FREE} or 255')
    return OccupancyLabels(
        semantics_XYZ=voxels['semantics'].astype(np.uint8, copy=False),
        mask_lidar_XYZ=voxels['mask_lidar'].astype(np.uint8, copy=False),
        mask_camera_XYZ=voxels['mask_camera'].astype(np.uint8, copy=False),
        density_XYZ=density)


def box_class(category: str) -> int:
    """Occupancy class of an annotated category; 0 ('others') for what is not detected."""
    name = CATEGORY_TO_CLASS.get(category, category)
    return OCCUPANCY_CLASSES.index(name) if name in OCCUPANCY_CLASSES else 0


def lane_labels(record: FrameRecord, scene_map: SceneMap, protocol: str, path: Path) -> LanePolylines:
    """The lanes of a frame by a protocol of `LANE_PROTOCOLS`; `path` is the file of the map.

    Raises:
        InfosError: the map or the frame does not hold what the protocol needs.
    """
    if not LANE_PROTOCOLS[protocol].published:
        return lanes_around(scene_map, *flat_ego_T_global(record.global_T_ego))
    try:
        return published_lanes(scene_map, record.global_T_ego, record.ego_T_lidar, protocol)
    except ValueError as error:
        raise InfosError(f'{path}: {record.token}: {error}') from None
