"""Occupancy: Occ3D's mIoU under a named mask, geometry IoU, and RayIoU.

One 18 x 18 confusion matrix C (truth, prediction) over the whole split and per mask:

    IoU(c) = C[c, c] / (C[c, :].sum() + C[:, c].sum() - C[c, c])
    mIoU = mean over the 17 classes other than free
    geometry IoU = the same for 'occupied' (any class but free) against free

Masks, never left unsaid: `camera` (voxels that a camera observed; what papers report on Occ3D-nuScenes),
`lidar` (observed by the LiDAR), `all` (no mask: also punishes what is guessed behind walls). Camera-masked
mIoU can be raised by predicting thick surfaces, since the space behind them is not looked at; RayIoU cannot.
Voxels labelled 255 never count. A class that is neither in truth nor prediction is left out of the mean
(NaN).

RayIoU: rays from the LiDAR's places along the drive (`rays.py` has the exact set) through truth and
prediction. A ray is true positive for class c at T metres if truth and prediction both end in class c and
their depths differ by less than T; rays that end nowhere in truth are left out. IoU(c, T) = TP / (truth +
predicted - TP); RayIoU@T = mean over 17 classes; RayIoU = mean over all classes at T = 1, 2, 4 m. A ray that
enters the grid nowhere (an origin above or below it) is free. Without the place of its LiDAR
(`Frame.ego_T_lidar`) a sample has no rays; how many those are is said beside the scores.

Source: Tian et al., Occ3D, NeurIPS 2023 (arXiv 2304.14365); Liu et al., Fully Sparse 3D Occupancy Prediction,
ECCV 2024 (arXiv 2312.17118), section 4.
"""
from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numba import njit

from ...core.contracts import OccupancyLabels
from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORED
from .rays import cast, compare

CLASSES = len(OCCUPANCY_CLASSES)
MASKS = ('camera', 'lidar', 'all')
RAY_THRESHOLDS_M = (1.0, 2.0, 4.0)
CONFIDENCE_BINS = 20


@dataclass(frozen=True)
class OccupancyCounts:
    """What one or more samples add.

    Attributes:
        confusion_MCC: int64 `(masks, truth, prediction)` in the order of `MASKS`.
        ray_hits_TC: true positives `(thresholds, classes)`;
        ray_truth_C, ray_predicted_C: rays by their class.
        bins_3K: float64 (voxels, right ones, sum of confidence) per confidence bin, under the camera mask.
        samples: how many.
        without_lidar: those of them whose rays have no origin, since their frame has no LiDAR.
    """

    confusion_MCC: np.ndarray
    ray_hits_TC: np.ndarray
    ray_truth_C: np.ndarray
    ray_predicted_C: np.ndarray
    bins_3K: np.ndarray
    samples: int = 0
    without_lidar: int = 0

    def __add__(self, other: OccupancyCounts) -> OccupancyCounts:
        return OccupancyCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @staticmethod
    def zero() -> OccupancyCounts:
        """Nothing counted yet."""
        return OccupancyCounts(
            np.zeros((len(MASKS), CLASSES, CLASSES), np.int64),
            np.zeros((len(RAY_THRESHOLDS_M), CLASSES), np.int64), np.zeros(CLASSES, np.int64),
            np.zeros(CLASSES, np.int64), np.zeros((3, CONFIDENCE_BINS)))


def count_occupancy(
    semantics_XYZ: np.ndarray,
    truth: OccupancyLabels,
    confidence_XYZ: np.ndarray | None = None,
    origins_T3: np.ndarray | None = None,
) -> OccupancyCounts:
    """Count one sample's voxels and, where ray origins `(T, 3)` (ego, metres) are given, its rays.

    Raises:
        ValueError: shapes differ, or the prediction holds a number that is no class.
    """
    check_semantics(semantics_XYZ, truth.semantics_XYZ.shape)

    flat = [np.ascontiguousarray(grid).ravel() for grid in (semantics_XYZ, truth.semantics_XYZ)]
    masks = [
        np.ascontiguousarray(mask).ravel().astype(np.bool_)
        for mask in (truth.mask_camera_XYZ, truth.mask_lidar_XYZ)
    ]
    confusion, bins = count_voxels(*flat, *masks, _confidences(confidence_XYZ))

    if origins_T3 is None:
        zero = OccupancyCounts.zero()
        rays = (zero.ray_hits_TC, zero.ray_truth_C, zero.ray_predicted_C)
    else:
        rays = count_rays(semantics_XYZ, truth.semantics_XYZ, origins_T3)
    return OccupancyCounts(confusion, *rays, bins, 1)


def check_semantics(semantics_XYZ: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless these are whole class numbers in a grid of this shape."""
    if semantics_XYZ.shape != shape:
        raise ValueError(f'occupancy: predicted grid {semantics_XYZ.shape}, truth {shape}')

    whole = semantics_XYZ.dtype.kind in 'ui'
    if not whole or (semantics_XYZ.size and semantics_XYZ.max() >= CLASSES) or semantics_XYZ.min() < 0:
        raise ValueError(f'occupancy: expected class numbers 0..{CLASSES - 1}, found {semantics_XYZ.dtype} '
                         f'{semantics_XYZ.min()}..{semantics_XYZ.max()}')


def _confidences(confidence_XYZ: np.ndarray | None) -> np.ndarray:
    """Confidence in 255 steps, as results keep it; empty where there is none."""
    if confidence_XYZ is None:
        return np.zeros(0, np.uint8)
    if confidence_XYZ.dtype == np.uint8:
        return np.ascontiguousarray(confidence_XYZ).ravel()
    return np.clip(np.rint(confidence_XYZ.astype(np.float32) * 255), 0, 255).astype(np.uint8).ravel()


@njit(cache=True)
def count_voxels(
    predicted: np.ndarray, true: np.ndarray, camera: np.ndarray, lidar: np.ndarray, confidence: np.ndarray
):
    """Confusions `(masks, truth, prediction)` of flat grids, and confidence bins under the camera mask."""
    confusion = np.zeros((3, CLASSES, CLASSES), dtype=np.int64)
    bins = np.zeros((3, CONFIDENCE_BINS))

    for i in range(len(predicted)):
        t, p = true[i], predicted[i]
        if t >= CLASSES:  # not labelled
            continue

        confusion[2, t, p] += 1
        if lidar[i]:
            confusion[1, t, p] += 1
        if camera[i]:
            confusion[0, t, p] += 1
            if len(confidence) > 0:
                k = min(confidence[i] * CONFIDENCE_BINS // 255, CONFIDENCE_BINS - 1)
                bins[0, k] += 1
                bins[1, k] += t == p
                bins[2, k] += confidence[i] / 255

    return confusion, bins


def count_voxels_reference(predicted: np.ndarray, true: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Reference implementation of `count_voxels` for one mask: the confusion `(truth, prediction)`."""
    keep = mask.astype(bool) & (true != OCCUPANCY_IGNORED)
    table = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    np.add.at(table, (true[keep].astype(int), predicted[keep].astype(int)), 1)
    return table


def count_rays(predicted_XYZ: np.ndarray, truth_XYZ: np.ndarray, origins_T3: np.ndarray,
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the rays that end somewhere in truth.

    Returns:
        True positives `(thresholds, classes)`, rays by true class and by predicted class.
    """
    truth_XYZ = np.where(truth_XYZ == OCCUPANCY_IGNORED, np.uint8(OCCUPANCY_FREE), truth_XYZ)
    return compare(truth_XYZ, predicted_XYZ, origins_T3, RAY_THRESHOLDS_M, CLASSES)


def count_rays_reference(predicted_XYZ: np.ndarray, truth_XYZ: np.ndarray, origins_T3: np.ndarray,
                    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference implementation of `count_rays`: cast both grids, then compare ray by ray."""
    (true_label, true_m), (label, depth_m) = cast(truth_XYZ, origins_T3), cast(predicted_XYZ, origins_T3)
    valid = true_label != OCCUPANCY_FREE
    same = (true_label == label)[valid]
    error_m = np.abs(depth_m - true_m)[valid]

    true_label, label = true_label[valid], label[valid]
    hits = [
        np.bincount(true_label[same & (error_m < limit_m)], minlength=CLASSES) for limit_m in RAY_THRESHOLDS_M
    ]
    return np.stack(hits), np.bincount(true_label, minlength=CLASSES), np.bincount(label, minlength=CLASSES)


def iou_of_confusion(confusion_CC: np.ndarray) -> np.ndarray:
    """IoU per class; NaN where a class is neither in truth nor in the prediction."""
    hit = np.diag(confusion_CC).astype(np.float64)
    union = confusion_CC.sum(0) + confusion_CC.sum(1) - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def geometry_iou(confusion_CC: np.ndarray) -> float:
    """IoU of 'occupied'; NaN where nothing is occupied on either side."""
    free = OCCUPANCY_FREE
    both = (
        confusion_CC.sum() - confusion_CC[free].sum() - confusion_CC[:, free].sum() + confusion_CC[free, free]
    )

    union = confusion_CC.sum() - confusion_CC[free, free]
    return float(both / union) if union else float('nan')


def ray_iou(counts: OccupancyCounts) -> np.ndarray:
    """RayIoU per threshold and class other than free: `(3, 17)`, NaN where no ray meets the class."""
    hits = counts.ray_hits_TC[:, :OCCUPANCY_FREE].astype(np.float64)
    union = (counts.ray_truth_C + counts.ray_predicted_C)[:OCCUPANCY_FREE] - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')


def occupancy_scores(counts: OccupancyCounts, prefix: str = 'occupancy/') -> dict[str, float]:
    """Scores by name: mIoU, geometry IoU and IoU per class under each mask, RayIoU@1m, @2m, @4m, mean."""
    scores: dict[str, float] = {}
    per_class: dict[str, float] = {}
    occupied = OCCUPANCY_CLASSES[:-1]

    for m, mask in enumerate(MASKS):
        iou = iou_of_confusion(counts.confusion_MCC[m])
        scores[f'mIoU_{mask}'] = _mean(iou[:OCCUPANCY_FREE])
        scores[f'geometry_IoU_{mask}'] = geometry_iou(counts.confusion_MCC[m])
        per_class |= {f'IoU_{mask}_{name}': float(iou[c]) for c, name in enumerate(occupied)}

    if counts.ray_truth_C.sum():
        rays = ray_iou(counts)
        scores['RayIoU'] = _mean(rays)
        for t, limit_m in enumerate(RAY_THRESHOLDS_M):
            scores[f'RayIoU@{limit_m:g}m'] = _mean(rays[t])
        per_class |= {f'RayIoU_{name}': _mean(rays[:, c]) for c, name in enumerate(occupied)}

    return {prefix + name: value for name, value in (scores | per_class).items()}
