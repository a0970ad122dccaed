"""Label records and label files to the records of `contracts`."""
from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ...core.contracts import BoxLabels, OccupancyLabels
from ...core.protocols import ATTRIBUTES, OCCUPANCY_SHAPE_XYZ, detection_label
from .infos import Record, unpack_numbers
from .io import BadFile


def box_labels(record: Record) -> BoxLabels:
    """The boxes of a frame record that belong to a detection class."""
    labels = np.array([detection_label(name) for name in record['categories']], dtype=np.int64)
    attributes = np.array(
        [ATTRIBUTES.index(a) if a in ATTRIBUTES else -1 for a in record['attributes']], dtype=np.int64
    )
    all_boxes = BoxLabels(
        unpack_numbers(record['boxes'], 9).astype(np.float32), labels, attributes,
        np.array(record['lidar_points'], dtype=np.int64), np.array(record['radar_points'], dtype=np.int64),
        np.array(record['visibility'], dtype=np.int64), tuple(record['instances']))
    return all_boxes.select(labels >= 0)


def load_occupancy(path: Path) -> OccupancyLabels:
    """Read Occ3D's `labels.npz`, with `density` where the file has one.

    Raises:
        BadFile: absent, not an npz, an array missing or of another shape than (200, 200, 16).
    """
    if not Path(path).is_file():
        raise BadFile(path, 'found no such file')
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ('semantics', 'mask_lidar', 'mask_camera')}
            density = {name: arrays[name] for name in ('density',) if name in arrays}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadFile(path, f'cannot be read as Occ3D labels: {error}') from error
    for name, array in (found | density).items():
        if array.shape != OCCUPANCY_SHAPE_XYZ:
            raise BadFile(path, f'{name}: found shape {array.shape}, expected {OCCUPANCY_SHAPE_XYZ}')
    return OccupancyLabels(
        *(array.astype(np.uint8, copy=False) for array in found.values()), density.get('density')
    )
