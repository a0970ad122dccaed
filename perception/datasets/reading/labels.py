"""Label records and label files to the records of `contracts`."""
from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ...core.contracts import BoxLabels, OccupancyLabels
from ...core.protocols import ATTRIBUTES, OCCUPANCY_SHAPE_XYZ, detection_label
from .io import BadFile
from .records import BoxRecords


def box_labels(records: BoxRecords) -> BoxLabels:
    """The boxes of a frame that belong to a detection class."""
    labels = np.array([detection_label(name) for name in records.categories], dtype=np.int64)
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
        instance_tokens=records.instances)
    return boxes.select(labels >= 0)


def load_occupancy(path: Path) -> OccupancyLabels:
    """Read Occ3D's `labels.npz`, with `density` where the file has one.

    Raises:
        BadFile: absent, not an npz, an array missing or of another shape than (200, 200, 16).
    """
    if not Path(path).is_file():
        raise BadFile(path, 'found no such file')
    try:
        with np.load(path, allow_pickle=False) as arrays:
            voxels = {name: arrays[name] for name in ('semantics', 'mask_lidar', 'mask_camera')}
            density = arrays['density'] if 'density' in arrays else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadFile(path, f'cannot be read as Occ3D labels: {error}') from error

    for name, array in (voxels | {'density': density}).items():
        if array is not None and array.shape != OCCUPANCY_SHAPE_XYZ:
            raise BadFile(path, f'{name}: found shape {array.shape}, expected {OCCUPANCY_SHAPE_XYZ}')
    return OccupancyLabels(
        semantics_XYZ=voxels['semantics'].astype(np.uint8, copy=False),
        mask_lidar_XYZ=voxels['mask_lidar'].astype(np.uint8, copy=False),
        mask_camera_XYZ=voxels['mask_camera'].astype(np.uint8, copy=False),
        density_XYZ=density)
