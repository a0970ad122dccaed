"""A small synthetic batch and a small model with a trivial head, for tests of the encoders and of the
model."""
from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from perception.bev.backbones.fpn import FPN
from perception.bev.backbones.resnet import ResNet
from perception.bev.camera import CameraEncoder
from perception.bev.lidar import LidarEncoder
from perception.bev.records import DepthBins
from perception.core.contracts import Annotations, Batch, Frame, MapSegmentation
from perception.core.geometry import make_transform
from perception.core.grid import BEVGrid
from perception.fusion.concat import ConcatFuser
from perception.fusion.trunk import Trunk
from perception.heads.base import TaskHead
from perception.model import MultiTaskPerception
from perception.preprocessor import BatchPreprocessor

GROUND = dict(x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8))
GRID = BEVGrid(**GROUND, cell_m=1.6)
VOXEL_GRID = BEVGrid(**GROUND, cell_m=1.6, z_range_m=(-1.0, 3.0), height_cell_m=1.0)
PILLAR_GRID = BEVGrid(**GROUND, cell_m=0.8)
BINS = DepthBins(1.0, 17.0, 16)
SEMANTIC_CHANNELS = 6


def ring_camera(yaw_rad: float, height_m: float = 1.5) -> np.ndarray:
    """ego_T_cam `(4, 4)` of a level camera that looks along `yaw_rad`."""
    forward = np.array([math.cos(yaw_rad), math.sin(yaw_rad), 0.0])
    right = np.array([math.sin(yaw_rad), -math.cos(yaw_rad), 0.0])
    return make_transform(np.stack([right, [0, 0, -1.0], forward], 1), np.array([0, 0, height_m]))


def make_cloud(points: int, seed: int = 0) -> Tensor:
    """Random points `(P, 6)` within 14 m of the car, half of them from an older sweep."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-14, -14, -0.9), (14, 14, 2.9), (points, 3))
    lag = np.where(np.arange(points) % 2, 0.05, 0.0)
    rest = np.stack([rng.uniform(0, 255, points), rng.integers(0, 32, points), lag], 1)
    return torch.as_tensor(np.concatenate([xyz, rest], 1), dtype=torch.float32)


def make_batch(samples: int = 2, cameras: int = 6, image_hw: tuple[int, int] = (64, 96), points: int = 500,
               seed: int = 0) -> Batch:
    """B samples of a ring of N cameras and a cloud; images uint8."""
    generator = torch.Generator().manual_seed(seed)
    height, width = image_hw
    focal = width / 2 / math.tan(math.radians(35))
    K = torch.tensor([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])
    poses = np.stack([ring_camera(2 * math.pi * i / cameras) for i in range(cameras)])
    frames = tuple(Frame(f'sample-{i}', i, np.eye(4)) for i in range(samples))
    return Batch(
        frames,
        images_BN3HW=torch.randint(
            0, 256, (samples, cameras, 3, height, width), dtype=torch.uint8, generator=generator
        ),
        K_BN33=K.expand(samples, cameras, 3, 3).contiguous(),
        ego_T_cam_BN44=torch.as_tensor(poses, dtype=torch.float32).expand(samples, -1, 4, 4).contiguous(),
        camera_present_BN=torch.ones(samples, cameras, dtype=torch.bool),
        lidar_points=tuple(make_cloud(points, seed + i) for i in range(samples)),
        lidar_present_B=torch.ones(samples, dtype=torch.bool),
    )


class SquareHead(TaskHead):
    """One convolution; the loss pulls its output to the length of the sample's token. Enough to train
    everything before it."""

    task = 'map_segmentation'

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, SEMANTIC_CHANNELS, 1)

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        return {'logits': self.conv(bev_BCYX)}

    def targets(self, annotations: list[Annotations], device: object = None) -> Tensor:
        return torch.tensor([float(len(a.token)) for a in annotations], device=device)[:, None, None, None]

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        return {'square': (raw['logits'].float() - targets).square().mean()}

    def decode(self, raw: dict[str, Tensor]) -> list[MapSegmentation]:
        return [
            MapSegmentation(p.numpy(), GRID.x_range_m, GRID.y_range_m)
            for p in raw['logits'].detach().float().sigmoid()
        ]


def make_camera(**options: object) -> CameraEncoder:
    """A quarter-width ResNet-18, stride 8, 16 depth bins, 16 x 16 x 4 voxels."""
    backbone = ResNet(18, width=0.25, out_stages=(2, 3))
    neck = FPN(backbone.out_channels, 16)
    sizes = {'in_channels': 16, 'context_channels': 8, 'out_channels': 12}
    return CameraEncoder(backbone, neck, VOXEL_GRID, BINS, **{**sizes, **options})


def make_lidar(static: bool = False, **options: object) -> LidarEncoder:
    """Pillars of 0.8 m to a grid of 1.6 m."""
    sizes = {
        'point_channels': (8,), 'channels': (8, 16), 'layers': (1, 1), 'out_channels': 12,
        'max_points_per_pillar': 8, 'export_sizes': {'points': 600, 'pillars': 600}}
    encoder = LidarEncoder(PILLAR_GRID, GRID, **{**sizes, **options})
    encoder.static = static
    return encoder


def make_model(sensors: tuple[str, ...] = ('camera', 'lidar'), **options: object) -> MultiTaskPerception:
    """Encoders, concatenation, trunk and the trivial head, with seeded weights."""
    torch.manual_seed(0)
    encoders = {
        name: make() for name, make in (('camera', make_camera), ('lidar', make_lidar)) if name in sensors
    }
    fuser = ConcatFuser({name: encoder.out_channels for name, encoder in encoders.items()}, 16)
    trunk = Trunk(16, 16, channels=(16, 16), layers=(1, 1))
    heads = {'map_segmentation': SquareHead(16)}
    return MultiTaskPerception(
        encoders, fuser, trunk, heads, data_preprocessor=BatchPreprocessor(), **options
    )
