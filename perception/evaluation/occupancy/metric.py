"""Occupancy for the suite, the results on disk and the tables; the formulas are in `protocol.py`."""
from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import Annotations, Frame, Occupancy, TaskOutput
from ...core.protocols import OCCUPANCY_CLASSES
from ...registry import TASK_METRICS
from ..base import OfficialFile, ScoreTable, TaskMetric
from ..reports.calibration import calibration_error
from ..storage.files import ArrayFolder
from .protocol import OccupancyCounts, count_occupancy, count_rays, occupancy_scores
from .rays import scene_origins

CONFIDENCE_STEPS = 255


@dataclass(frozen=True)
class PackedGrids:
    """Predicted and true voxel classes, packed: what rays need once all poses of the drive are known."""

    shape: tuple[int, int, int]
    predicted: bytes
    truth: bytes

    @staticmethod
    def of(predicted_XYZ: np.ndarray, truth_XYZ: np.ndarray) -> PackedGrids:
        """Pack two uint8 grids of one shape."""
        packed = [
            zlib.compress(np.ascontiguousarray(grid, dtype=np.uint8).tobytes(), 1)
            for grid in (predicted_XYZ, truth_XYZ)
        ]
        return PackedGrids(predicted_XYZ.shape, *packed)

    def unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true grid."""
        return tuple(
            np.frombuffer(zlib.decompress(packed), np.uint8).reshape(self.shape)
            for packed in (self.predicted, self.truth)
        )


@dataclass(frozen=True)
class OccupancySummary:
    """One sample's counts; `grids` is None where no rays are cast."""

    counts: OccupancyCounts
    grids: PackedGrids | None = None


@TASK_METRICS.register_module('occupancy')
class Occ3DOccupancy(TaskMetric):
    """Occ3D's mIoU under three masks, geometry IoU and RayIoU.

    Args:
        rays: RayIoU too (about 0.1 s a sample on 2 cores).
    """

    task = 'occupancy'
    prediction = Occupancy
    summary = OccupancySummary
    headline = {'occ mIoU': 'occupancy/mIoU_camera'}
    tables = (
        ScoreTable(
            'occupancy',
            ('mIoU_camera', 'mIoU_lidar', 'mIoU_all', 'geometry_IoU_camera', 'geometry_IoU_lidar',
             'geometry_IoU_all', 'RayIoU', 'RayIoU@1m', 'RayIoU@2m', 'RayIoU@4m'),
            OCCUPANCY_CLASSES[:-1], ('IoU_camera', 'IoU_lidar', 'IoU_all', 'RayIoU')),
    )
    classes = OCCUPANCY_CLASSES
    large = True
    official = 'occupancy'

    def __init__(self, rays: bool = True) -> None:
        self.rays = rays

    def headline_only(self) -> None:
        """Cast no rays: the longest part of the evaluation."""
        self.rays = False

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> OccupancySummary | None:
        """Voxel confusions, and the two grids where rays will be cast."""
        if output.occupancy is None or truth is None or truth.occupancy is None:
            return None

        predicted, labels = output.occupancy, truth.occupancy
        counts = count_occupancy(predicted.semantics_XYZ, labels, predicted.confidence_XYZ)
        grids = PackedGrids.of(predicted.semantics_XYZ, labels.semantics_XYZ) if self.rays else None
        return OccupancySummary(counts, grids)

    def accumulate(self, samples: Sequence[tuple[Frame, OccupancySummary | None]]) -> OccupancyCounts | None:
        """Sum of all counts.

        Rays start where the LiDAR was along the whole drive. A sample that does not say where its LiDAR is
        has none, and is counted.
        """
        drives: dict[str, list[Frame]] = {}
        for frame, _ in samples:
            drives.setdefault(frame.scene, []).append(frame)

        total = OccupancyCounts.zero()
        for frame, summary in samples:
            if summary is None:
                continue
            total = total + summary.counts
            if summary.grids is not None:
                drive = drives[frame.scene] if frame.scene else [frame]
                rays = count_rays(*summary.grids.unpack(), scene_origins(frame, drive))
                total = total + OccupancyCounts(0, *rays, 0.0, without_lidar=int(frame.ego_T_lidar is None))
        return total if total.samples else None

    def scores(self, total: OccupancyCounts) -> dict[str, float]:
        """`occupancy/mIoU_camera`, geometry IoU, RayIoU, and per class."""
        return occupancy_scores(total)

    def details(self, total: OccupancyCounts) -> dict[str, Any]:
        """Confusion and calibration over the voxels that a camera observed."""
        details: dict[str, Any] = {
            'occupancy_confusion_camera': total.confusion_MCC[0].tolist(),
            'occupancy_classes': list(OCCUPANCY_CLASSES)}
        if total.without_lidar:
            details['occupancy_without_rays'] = total.without_lidar
        if total.bins_3K[0].sum():
            details['occupancy_bins'] = total.bins_3K.tolist()
            details['occupancy_ece'] = calibration_error(total.bins_3K)
        return details

    @staticmethod
    def format_details(details: Mapping[str, Any]) -> list[str]:
        """Samples that RayIoU leaves out, and the calibration error."""
        lines = []
        if 'occupancy_without_rays' in details:
            count = details['occupancy_without_rays']
            lines.append(
                f'RayIoU leaves out {count} samples whose frame has no ego_T_lidar: rays start at the LiDAR')
        if 'occupancy_ece' in details:
            error = details['occupancy_ece']
            lines.append(f'calibration error (ECE) of occupancy confidence, camera mask: {error:.4f}')
        return lines

    def to_arrays(self, prediction: Occupancy, frame: Frame) -> dict[str, np.ndarray]:
        """Classes, and confidence in 255 steps."""
        semantics = np.asarray(prediction.semantics_XYZ)
        if semantics.dtype.kind not in 'iu' or (semantics.size and not 0 <= semantics.min() <= semantics.max()
                                                < len(OCCUPANCY_CLASSES)):
            raise ValueError(f'occupancy.semantics: expected classes 0 to {len(OCCUPANCY_CLASSES) - 1}')

        arrays = {'semantics': prediction.semantics_XYZ}
        if prediction.confidence_XYZ is not None:
            steps = np.rint(np.asarray(prediction.confidence_XYZ, dtype=np.float32) * CONFIDENCE_STEPS)
            arrays['confidence'] = np.clip(steps, 0, CONFIDENCE_STEPS).astype(np.uint8)
        return arrays

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Occupancy:
        """Classes and confidence -> the record."""
        steps = arrays.get('confidence')
        if steps is not None:
            steps = (steps.astype(np.float32) / CONFIDENCE_STEPS).astype(np.float16)
        return Occupancy(arrays['semantics'], steps)

    def official_file(self, folder: Path, meta: Mapping[str, bool]) -> OfficialFile:
        """`occupancy/<token>.npz` with `semantics` in Occ3D order."""
        def arrays(prediction: Occupancy) -> dict[str, np.ndarray]:
            return {'semantics': prediction.semantics_XYZ.astype(np.uint8)}

        return ArrayFolder(folder / self.official, arrays)
