"""Images of all cameras -> one bird's-eye-view map, by depth distributions and gathering."""
from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.contracts import Batch, SensorFeature
from ..core.grid import BEVGrid
from ..registry import MODELS
from .base import SensorEncoder
from .depth import DepthBins, DepthNet, calibration_numbers, depth_loss, lidar_depth_map
from .lift import LiftGeometry, LiftTableCache, lift_tables
from .ops.blocks import BasicBlock, conv_bn_relu, residual_stage
from .ops.gather import depth_weights, gather_sum


@MODELS.register_module()
class CameraEncoder(SensorEncoder):
    """Backbone, neck, depth, lift, collapse of heights.

    Args:
        backbone: images `(BN, 3, H, W)` -> feature maps.
        neck: feature maps -> maps; the first one is lifted.
        grid: with heights (`height_cell_m`); the ground part is the output's.
        depth_bins: distances a pixel may have.
        in_channels: of the neck's first map.
        context_channels: lifted per voxel.
        out_channels: of the BEV map.
        slots: cameras a voxel may read.
        interpolate: read two depth bins linearly.
        row_upsampling: rows of context and depth for every row of features, interpolated (1: as they are);
            towards the horizon one row of features covers many metres of road (at stride 8 and 280 pixels of
            focal length 8 m at a distance of 20), which would else all read the same.
        refine_layers: residual blocks after the collapse.
        camera_aware: the depth network reads the calibration, which then is one more graph input.
        depth_loss_weight: of the LiDAR supervision; 0 leaves it out.
        depth_loss_kind: see `depth_loss`.
        cache_size: calibrations whose tables are kept in evaluation.
    """

    sensor = 'camera'

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        grid: BEVGrid,
        depth_bins: DepthBins,
        in_channels: int,
        context_channels: int = 64,
        out_channels: int = 80,
        slots: int = 2,
        interpolate: bool = True,
        row_upsampling: int = 1,
        refine_layers: int = 0,
        camera_aware: bool = False,
        depth_loss_weight: float = 1.0,
        depth_loss_kind: str = 'cross_entropy',
        cache_size: int = 8,
    ) -> None:
        super().__init__()
        if grid.height_cell_m is None:
            raise ValueError('CameraEncoder.grid: expected a grid with heights (height_cell_m), found None')
        if slots < 1:
            raise ValueError(f'CameraEncoder.slots: expected at least 1, found {slots}')
        if row_upsampling < 1:
            raise ValueError(f'CameraEncoder.row_upsampling: expected at least 1, found {row_upsampling}')
        self.backbone = backbone
        self.neck = neck
        self.grid = grid
        self.depth_bins = depth_bins
        self.slots = slots
        self.interpolate = interpolate
        self.row_upsampling = row_upsampling
        self.out_channels = out_channels
        self.depth_loss_weight, self.depth_loss_kind = depth_loss_weight, depth_loss_kind
        self.depth_net = DepthNet(in_channels, context_channels, depth_bins, camera_aware=camera_aware)
        self.camera_aware = camera_aware
        self.collapse = conv_bn_relu(grid.z_size * context_channels, out_channels, 1)
        self.refine = (
            residual_stage(BasicBlock, out_channels, out_channels, refine_layers, 1)
            if refine_layers
            else nn.Identity()
        )
        self.cache = LiftTableCache(cache_size)
        self._feature_hw: dict[tuple[int, int], tuple[int, int]] = {}

    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """`images` `(B, N, 3, H, W)` normalised float, and the tables `pixel_index`, `depth_index`,
        `depth_share` `(B, V, S)`; `calibration` `(B, N, 18)` where the depth network is camera-aware.

        Raises:
            ValueError: the batch has no cameras.
        """
        if batch.images_BN3HW is None:
            raise ValueError(
                'CameraEncoder.prepare: the batch has no images (was the camera left out of the data?)'
            )
        image_hw = tuple(batch.images_BN3HW.shape[-2:])
        geometry = LiftGeometry(
            self.grid, self.depth_bins, image_hw, self.feature_hw(image_hw), self.slots, self.interpolate
        )
        tables = lift_tables if self.training else self.cache
        found = tables(batch.K_BN33, batch.ego_T_cam_BN44, batch.camera_present_BN, geometry)
        inputs = {'images': batch.images_BN3HW, **found.tensors()}
        return inputs | {'calibration': calibration_numbers(batch)} if self.camera_aware else inputs

    @torch.no_grad()
    def feature_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of what is lifted for images of this size (asked once by shapes alone, then
        remembered)."""
        if image_hw not in self._feature_hw:
            rows, columns = probe_feature_hw(self.backbone, self.neck, image_hw)
            self._feature_hw[image_hw] = (rows * self.row_upsampling, columns)
        return self._feature_hw[image_hw]

    # the names are those of `prepare`
    def forward(self, images: Tensor, pixel_index: Tensor, depth_index: Tensor, depth_share: Tensor,
                calibration: Tensor | None = None) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)`, voxels `(B, C, Z, Y, X)`, depth logits for the
        loss."""
        context, logits = self.look(images, calibration)
        bev, voxels = self.lift(context, logits, pixel_index, depth_index, depth_share)
        return SensorFeature(bev, voxels, {'depth_logits_BNDhw': logits})

    def look(self, images: Tensor, calibration: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images `(B, N, 3, H, W)` -> context `(B, N, C, h, w)` and depth logits `(B, N, D, h, w)`."""
        b, n = images.shape[:2]
        features = self.neck(self.backbone(images.flatten(0, 1)))
        features = features if isinstance(features, Tensor) else features[0]
        context, logits = self.depth_net(features, None if calibration is None else calibration.flatten(0, 1))
        if self.row_upsampling > 1:
            scale = (self.row_upsampling, 1)
            context, logits = (
                F.interpolate(x, scale_factor=scale, mode='bilinear') for x in (context, logits)
            )
        return context.unflatten(0, (b, n)), logits.unflatten(0, (b, n))

    def lift(self, context: Tensor, logits: Tensor, pixel_index: Tensor, depth_index: Tensor,
             depth_share: Tensor) -> tuple[Tensor, Tensor]:
        """Context `(B, N, C, h, w)` and depth logits `(B, N, D, h, w)` -> BEV map and voxels."""
        b, c, (z, y, x) = context.shape[0], context.shape[2], self.grid.shape_ZYX
        probabilities = logits.float().permute(0, 1, 3, 4, 2).softmax(-1).flatten(1, 3)
        weights = depth_weights(probabilities, depth_index, depth_share)
        voxels = gather_sum(context.permute(0, 1, 3, 4, 2).flatten(1, 3), pixel_index, weights)
        pillars = voxels.view(b, y, x, z * c).permute(0, 3, 1, 2)
        return self.refine(self.collapse(pillars)), voxels.view(b, y, x, z, c).permute(0, 4, 3, 1, 2)

    def loss(self, feature: SensorFeature, batch: Batch) -> dict[str, Tensor]:
        """Depth supervision by the car's own LiDAR; nothing where the configuration has no LiDAR."""
        if not self.depth_loss_weight or batch.lidar_points is None:
            return {}
        logits = feature.auxiliary['depth_logits_BNDhw']
        depth_m = lidar_depth_map(batch, tuple(logits.shape[-2:]))
        return {
            'depth': self.depth_loss_weight
            * depth_loss(logits, depth_m, self.depth_bins, self.depth_loss_kind)
        }


def probe_feature_hw(backbone: nn.Module, neck: nn.Module, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Size of the first map behind backbone and neck, found with tensors that have shapes but no values."""
    parts = [deepcopy(part).to('meta') for part in (backbone, neck)]
    for part in parts:
        part.eval()  # apart: `train` of OpenMMLab's backbones returns None
    maps = parts[1](parts[0](torch.empty(1, 3, *image_hw, device='meta')))
    return tuple((maps if isinstance(maps, Tensor) else maps[0]).shape[-2:])
