"""What a training step of a configuration costs at full size, found without values: `profile-step --meta`."""
from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

CLOUD_POINTS = 34_752
"""Of a nuScenes LiDAR sweep."""
SWEEP_SHIFT_M = 0.37
RADAR_POINTS = 300
BOXES = 31
"""Of a nuScenes key frame, the mean."""
COST_TITLES = (
    '| configuration | parameters M | forward TFLOP | backward TFLOP | peak of the step GiB | '
    'weights, AdamW GiB |\n|---|---|---|---|---|---|\n')


def step_costs(config: Any, path: str) -> dict[str, Any]:
    """A step of one made sample with every kind of label, on torch's device without values.

    Returns:
        The fields of `StepCost`, with `config` and `state_gib`.

    Raises:
        WrongDeviceError: something is made on the CPU that belongs to the device.
    """
    from ...training.full_size.step import build_on_meta, meta_step
    from ...training.recompute import recompute_parts

    batch, labels = made_batch(config)
    model = build_on_meta(config.model.to_dict())
    recompute_parts(model, config.get('recompute', ()))
    cost = meta_step(model, batch, labels)
    return {'config': path, **asdict(cost), 'state_gib': cost.state_gib}


def made_batch(config: Any) -> tuple[Any, list[Any]]:
    """Images, clouds and labels of the sizes that a configuration trains with, made without files."""
    import numpy as np
    import torch

    from ...core.contracts import BoxLabels, DetectionClasses
    from ...core.protocols import RADARS
    from ...deployment.frames import random_frames
    from ...evaluation.timing.made_samples import make_sample

    loader, rng = config.train_dataloader, np.random.default_rng(0)
    batch = random_frames(tuple(loader.collate_fn.image_size_hw), CLOUD_POINTS).read(0)
    # sweeps are the same street from places a little further back
    cloud, reading = batch.lidar_points[0], loader.dataset.reading
    shift = torch.zeros(cloud.shape[1])
    shift[0], shift[5] = -SWEEP_SHIFT_M, 0.05
    clouds = torch.cat([cloud + number * shift for number in range(1 + reading.get('lidar_sweeps', 0))])
    batch = replace(batch, lidar_points=(clouds,))

    sensors = loader.collate_fn.sensors
    if 'radar' in sensors:
        count = RADAR_POINTS * (1 + reading.get('radar_sweeps', 0))
        radar = rng.uniform((-50, -50, 0, -5, -5, 0, 0, 0), (50, 50, 2, 5, 5, 20, 0.5, 1), (count, 8))
        radar[:, 7] = np.arange(count) % len(RADARS)
        batch = replace(batch, radar_points=(torch.from_numpy(radar).float(),),
                        radar_present_BR=torch.ones(1, len(RADARS), dtype=torch.bool))
    if 'lidar' not in sensors:
        batch = replace(batch, lidar_points=None, lidar_present_B=None)
    if 'camera' not in sensors:
        batch = replace(batch, images_BN3HW=None, K_BN33=None, ego_T_cam_BN44=None, camera_present_BN=None)

    boxes_M9 = np.zeros((BOXES, 9), np.float32)
    boxes_M9[:, :2] = rng.uniform(-50, 50, (BOXES, 2))
    boxes_M9[:, 3:6] = 4.5, 1.9, 1.6
    number_M, none_M = np.arange(BOXES), np.zeros(BOXES, np.int64)
    classes = DetectionClasses.of(reading.get('classes'))
    boxes = BoxLabels(boxes_M9, number_M % len(classes), none_M - 1, none_M + 5, none_M, none_M + 4,
                      tuple(map(str, number_M)), classes)
    labels = replace(make_sample(0)[1], token=batch.frames[0].token, boxes=boxes)
    return batch, [labels]


def format_cost(row: dict[str, Any]) -> str:
    """A row of the table in docs/benchmarks/full_size.md."""
    return (f'| `{row["config"]}` | {row["parameters"] / 1e6:.1f} | {row["forward_tflop"]:.2f} | '
            f'{row["backward_tflop"]:.2f} | {row["peak_gib"]:.1f} | {row["state_gib"]:.1f} |')
