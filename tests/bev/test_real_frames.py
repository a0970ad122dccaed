"""On real frames the lift and the LiDAR speak of the same place: calibration, motion compensation and
augmentation agree."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from perception.bev.depth import lidar_depth_map
from perception.bev.lift import lift_tables
from perception.bev.ops.gather import depth_weights, gather_sum
from perception.bev.records import DepthBins, LiftGeometry
from perception.core.grid import BEVGrid

SIZE_HW = (256, 704)
GRID = BEVGrid((-51.2, 51.2), (-51.2, 51.2), 0.4, (-1.0, 5.0), 0.5)
BINS = DepthBins(1.0, 60.0, 118)


@pytest.fixture(scope='module', params=[False, True], ids=['plain', 'augmented'])
def frame(request, real_frames, real_infos):
    from perception.datasets.reading.collate import collate
    from perception.datasets.reading.dataset import NuScenesDataset
    from perception.datasets.transforms.image import ResizeCropFlipRotate
    dataset = NuScenesDataset(real_frames, split='mini_val', infos=real_infos, reading=dict(lidar_sweeps=0),
                              pipeline=[ResizeCropFlipRotate(SIZE_HW, request.param)])
    return collate([dataset[0]], sensors=('camera', 'lidar'))['inputs']


def test_lidar_depth_covers_every_image(frame):
    covered = lidar_depth_map(frame, (64, 176)).isfinite().float().mean((0, 2, 3))
    assert (covered > 0.08).all() and (covered < 0.6).all()


def test_lifted_lidar_depth_lies_on_lidar_points(frame):
    """Voxels lit through the cameras lie within a voxel or two of a point; mirrored left to right they do
    not."""
    coordinate = BINS.coordinate(lidar_depth_map(frame, (64, 176)))
    known = (coordinate >= 0) & (coordinate < BINS.count)
    sure = F.one_hot(coordinate.clamp(0, BINS.count - 1).long(), BINS.count).float() * known[..., None]
    tables = lift_tables(frame.K_BN33, frame.ego_T_cam_BN44, frame.camera_present_BN,
                         LiftGeometry(GRID, BINS, SIZE_HW, (64, 176), interpolate=False))
    weights = depth_weights(sure.flatten(1, 3), tables.depth_index, tables.far_weight)
    lit = gather_sum(known.float().flatten(1)[..., None], tables.pixel_index, weights).flatten() > 0
    centres = torch.as_tensor(GRID.voxel_centres_m()).permute(1, 2, 0, 3).reshape(-1, 3)[lit]
    points = frame.lidar_points[0][:, :3]
    distance, mirrored = (
        torch.cdist(c, points).min(1).values for c in (centres, centres * torch.tensor([1, -1, 1]))
    )
    assert len(centres) > 300 and distance.median() < 0.3 and distance.quantile(0.99) < 0.8
    assert mirrored.median() > 1.0
