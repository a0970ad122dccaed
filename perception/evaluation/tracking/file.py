"""Tracks -> the nuScenes tracking results format."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, DetectionClasses
from ...core.files import write_json
from ..detection.boxes import BoxTable
from ..detection.file import META_FLAGS
from ..detection.storage import nuscenes_records


def is_tracked_class(label_M: np.ndarray, classes: DetectionClasses = NUSCENES_CLASSES) -> np.ndarray:
    """Which boxes are of a class of the tracking task: bool `(M,)`."""
    return np.isin(label_M, [classes.label_of[name] for name in classes.tracked])


def tracking_records(
    boxes: BoxTable, ids: Sequence[int | str], token: str, classes: DetectionClasses = NUSCENES_CLASSES
) -> list[dict[str, Any]]:
    """One sample's boxes in the nuScenes tracking format.

    Args:
        boxes: global, of classes of the tracking task.
        ids: of the boxes.
        token: of the sample.
        classes: what the labels mean.
    """
    records = []
    for record, identity in zip(nuscenes_records(boxes, token, classes), ids, strict=True):
        del record['attribute_name']
        record['tracking_id'] = str(identity)
        record['tracking_name'] = record.pop('detection_name')
        record['tracking_score'] = record.pop('detection_score')
        records.append(record)
    return records


def write_tracking_results(
    path: str | Path, meta: Mapping[str, Any], results: Mapping[str, list[dict[str, Any]]]
) -> Path:
    """Write a results file, whole or not at all.

    Args:
        path: .json.
        meta: that of the detections; flags that are absent are False.
        results: {sample token: `tracking_records`}.
    """
    flags = {**dict.fromkeys(META_FLAGS, False), **meta}
    return write_json(path, {'meta': flags, 'results': dict(results)})
