"""Samples to a `Batch`: the last step on the loader's side.

A sensor that one sample lacks and others have keeps its place: its values are neutral and its mask is False.
A sensor that every sample of a batch lacks must be named in `sensors`, or the batch would look as if the
model had never had it.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS

from ...core.contracts import (
    LIDAR_COLUMNS,
    RADAR_COLUMNS,
    Annotations,
    Batch,
    CameraRig,
    Frame,
    Sample,
)
from ...core.lens import batch_rows
from ...core.protocols import CAMERAS, RADARS, SENSORS
from ...registry import FUNCTIONS
from ..transforms.sensor import keep_where_any


@MMENGINE_FUNCTIONS.register_module()  # the Runner looks collate functions up in mmengine's own scope
@FUNCTIONS.register_module()
def collate(
    pairs: Sequence[tuple[Sample, Annotations | None]],
    sensors: Sequence[str] | None = None,
    image_size_hw: tuple[int, int] | None = None,
    camera_names: Sequence[str] = CAMERAS,
) -> dict[str, object]:
    """Put B samples together: `{'inputs': Batch, 'data_samples': [Annotations | None] * B}`.

    Args:
        pairs: what the dataset returns, one pair per sample.
        sensors: those the model has; None takes the ones that some sample of this batch has.
        image_size_hw: size of the images, read only when no sample has any.
        camera_names: names of the cameras, read likewise.

    Raises:
        ValueError: no samples, an unknown sensor, samples whose cameras or image sizes differ, or cameras
        asked for with no sample to take their size from.
    """
    if not pairs:
        raise ValueError('collate: expected at least one sample, found none')
    samples = [sample for sample, _ in pairs]
    return {
        'inputs': collate_samples(samples, _batch_sensors(samples, sensors), image_size_hw, camera_names),
        'data_samples': [annotations for _, annotations in pairs]}


def collate_samples(
    samples: Sequence[Sample],
    chosen: Sequence[str],
    image_size_hw: tuple[int, int] | None,
    camera_names: Sequence[str],
) -> Batch:
    """Samples, and the frames before them, as tensors of the chosen sensors; see `collate`."""
    if samples[0].batch_keeps is not None:
        samples = [keep_where_any(sample, samples[0].batch_keeps) for sample in samples]

    fields: dict[str, object] = {}
    if 'camera' in chosen:
        fields |= _cameras(samples, image_size_hw, camera_names)
    if 'lidar' in chosen:
        fields |= _lidars(samples)
    if 'radar' in chosen:
        fields |= _radars(samples)

    lengths = sorted({len(sample.before) for sample in samples})
    if len(lengths) > 1:
        raise ValueError(f'collate: expected clips of one length, found {lengths} earlier frames')
    before = tuple(
        collate_samples([sample.before[i] for sample in samples], chosen, image_size_hw, camera_names)
        for i in range(lengths[0]))
    return Batch(collate_frames(samples), **fields, before=before)


def collate_frames(samples: Sequence[Sample]) -> tuple[Frame, ...]:
    """The frames of samples, in order."""
    return tuple(sample.frame for sample in samples)


def _batch_sensors(samples: Sequence[Sample], sensors: Sequence[str] | None) -> tuple[str, ...]:
    if sensors is None:
        return tuple(name for name in SENSORS if any(getattr(sample, name) is not None for sample in samples))
    unknown = sorted(set(sensors) - set(SENSORS))
    if unknown:
        raise ValueError(f'collate: unknown sensor {unknown[0]!r}, expected some of {SENSORS}')
    return tuple(sensors)


def _cameras(
    samples: Sequence[Sample], image_size_hw: tuple[int, int] | None, names: Sequence[str]
) -> dict[str, torch.Tensor | None]:
    """Rigs stacked; a sample without one gets black images, identity matrices and a mask of False."""
    rigs = [(sample.frame.token, sample.camera) for sample in samples if sample.camera is not None]
    for other in rigs[1:]:
        _check_alike(rigs[0], other)
    for token, rig in rigs:
        _check_one_size(token, rig)

    if rigs:
        names, image_size_hw = rigs[0][1].names, rigs[0][1].image_size_hw
    if image_size_hw is not None:
        blank = CameraRig.blank(names, [tuple(image_size_hw)] * len(names))
    else:
        raise ValueError('collate: cameras are asked for and no sample has images; say image_size_hw=(H, W)')

    all_rigs = [blank if sample.camera is None else sample.camera for sample in samples]
    images = torch.from_numpy(np.stack([rig.images_NHW3 for rig in all_rigs]))
    present = np.stack([rig.present_N for rig in all_rigs]).astype(bool)
    lens_BN10 = batch_rows([rig.distortions for rig in all_rigs], len(names))
    return {
        'images_BN3HW': images.permute(0, 1, 4, 2, 3).contiguous(),
        'K_BN33': _float32([rig.K_N33 for rig in all_rigs]),
        'ego_T_cam_BN44': _float32([rig.ego_T_cam_N44 for rig in all_rigs]),
        'camera_present_BN': torch.from_numpy(present),
        'lens_BN10': None if lens_BN10 is None else _float32(lens_BN10),
    }


def _check_alike(first: tuple[str, CameraRig], other: tuple[str, CameraRig]) -> None:
    for name, what in (('names', 'cameras'), ('image_size_hw', 'images of (H, W)')):
        expected, found = getattr(first[1], name), getattr(other[1], name)
        if expected != found:
            raise ValueError(
                f'collate: sample {first[0]} has {what} {expected} and sample {other[0]} has {found}; one '
                'batch needs the same (a ResizeCropFlipRotate transform gives every image one size)'
            )


def _check_one_size(token: str, rig: CameraRig) -> None:
    if rig.sizes_N2 is not None:
        sizes = ', '.join(
            f'{name} {height} x {width}'
            for name, (height, width) in zip(rig.names, rig.sizes_N2.tolist(), strict=True))
        raise ValueError(
            f'collate: sample {token} has images of several sizes (H x W): {sizes}; one batch needs one size '
            '(a ResizeCropFlipRotate transform gives every image one size)'
        )


def _float32(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32))


def _points(rows: np.ndarray | None, columns: int) -> torch.Tensor:
    """Rows as a tensor that owns its memory; no rows where there is no sensor."""
    rows = np.zeros((0, columns), np.float32) if rows is None else rows
    return torch.from_numpy(np.array(rows, dtype=np.float32, order='C'))


def _lidars(samples: Sequence[Sample]) -> dict[str, object]:
    return {
        'lidar_points': tuple(_points(s.lidar and s.lidar.points_P6, len(LIDAR_COLUMNS)) for s in samples),
        'lidar_present_B': torch.tensor([s.lidar is not None for s in samples])}


def _radars(samples: Sequence[Sample]) -> dict[str, object]:
    present = [
        np.zeros(len(RADARS), bool) if s.radar is None else np.asarray(s.radar.present_R, bool)
        for s in samples
    ]
    return {
        'radar_points': tuple(_points(s.radar and s.radar.points_P8, len(RADAR_COLUMNS)) for s in samples),
        'radar_present_BR': torch.from_numpy(np.stack(present))}
