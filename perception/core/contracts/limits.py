"""What a batch may hold: points within the limits of their columns, calibrations finite in float32."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .batch import Batch
from .columns import LIDAR_LIMITS, RADAR_LIMITS

FARTHEST_CAMERA_M = 1000.0
LARGEST_K_PX = 1e6

Limits = Sequence[tuple[float, float]]


def within_limits(batch: Batch) -> tuple[Batch, Counter]:
    """Leave out what no sensor measures, whoever made the batch; it would spoil the whole frame.

    Points outside their limits, or not finite, are dropped. A camera whose calibration is not finite (a
    translation of 1e300 is infinite in float32), or too far away, is absent.

    Returns:
        The batch, the same one where nothing is left out, and how many of what were left out.
    """
    left_out: Counter = Counter()
    changes: dict[str, object] = {}
    for sensor, limits in (('lidar', LIDAR_LIMITS), ('radar', RADAR_LIMITS)):
        clouds = getattr(batch, f'{sensor}_points')
        if clouds is not None:
            kept = [_inside(cloud, limits) for cloud in clouds]
            lost = sum(int((~keep).sum()) for keep in kept)
            if lost:
                left_out[f'{sensor} points out of range'] = lost
                changes[f'{sensor}_points'] = tuple(
                    cloud[keep] for cloud, keep in zip(clouds, kept, strict=True)
                )

    if batch.camera_present_BN is not None:
        usable_BN = _small(batch.K_BN33, LARGEST_K_PX) & _small(batch.ego_T_cam_BN44, FARTHEST_CAMERA_M)
        lost = int((batch.camera_present_BN & ~usable_BN).sum())
        if lost:
            left_out['cameras with a calibration out of range'] = lost
            changes |= _without_cameras(batch, usable_BN)
    return (replace(batch, **changes) if changes else batch), left_out


def _inside(rows: Tensor, limits: Limits) -> Tensor:
    """Bool `(P,)`: whether every column of a row lies between its limits; NaN does not."""
    low, high = rows.new_tensor(limits).T
    return ((rows >= low) & (rows <= high)).all(1)


def _small(matrices_BN: Tensor, largest: float) -> Tensor:
    return (matrices_BN.abs() <= largest).flatten(2).all(2)


def _without_cameras(batch: Batch, usable_BN: Tensor) -> dict[str, Tensor]:
    """Fields of the batch in which the other cameras are absent, with identities that nobody reads."""
    def masked(matrices_BN: Tensor) -> Tensor:
        identity = torch.eye(matrices_BN.shape[-1], dtype=matrices_BN.dtype, device=matrices_BN.device)
        return torch.where(usable_BN[..., None, None], matrices_BN, identity)

    return {
        'camera_present_BN': batch.camera_present_BN & usable_BN,
        'K_BN33': masked(batch.K_BN33),
        'ego_T_cam_BN44': masked(batch.ego_T_cam_BN44),
    }
