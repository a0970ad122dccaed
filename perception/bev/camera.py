"""Images of all cameras -> one bird's-eye-view map, by depth distributions and gathering."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..core.config import build_record
from ..core.contracts import Batch
from ..core.grid import BEVGrid
from ..registry import MODELS
from .base import SensorEncoder
from .depth import DepthNet, calibration_numbers, depth_loss, lidar_depth_images, lidar_depth_map
from .lift import LiftTableCache, LiftTables, lift_tables
from .ops.blocks import BasicBlock, conv_bn_relu, residual_stage
from .ops.gather import depth_weights, gather_sum, layer_weights
from .ops.memory_order import laid_out
from .records import DepthBins, DepthOptions, LiftGeometry, LiftOptions, SensorFeature


@MODELS.register_module()
class CameraEncoder(SensorEncoder):
    """Backbone, neck, depth, lift, collapse of heights.

    Args:
        backbone: images `(BN, 3, H, W)` -> feature maps.
        neck: feature maps -> maps; the first one is lifted.
        grid: with heights (`heights_m` or `height_cell_m`); the ground part is the output's.
        depth_bins: distances a pixel may have.
        in_channels: of the neck's first map.
        context_channels: lifted per voxel.
        out_channels: of the BEV map.
        refine_layers: residual blocks after the collapse.
        lift: how voxels read the images, `LiftOptions`.
        depth: how depth is estimated and learned, `DepthOptions`.

    Raises:
        ValueError: the grid has no heights.
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
        refine_layers: int = 0,
        lift: LiftOptions | Mapping[str, Any] | None = None,
        depth: DepthOptions | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not grid.has_heights:
            raise ValueError(
                'CameraEncoder.grid: expected heights (heights_m or height_cell_m), found neither')
        self.grid = grid
        self.depth_bins = depth_bins
        self.out_channels = out_channels
        self.lift_options = build_record(LiftOptions, lift, 'CameraEncoder.lift')
        self.depth_options = build_record(DepthOptions, depth, 'CameraEncoder.depth')
        self.also_reads = ('lidar',) if self.depth_options.lidar_strides else ()

        self.backbone = backbone
        self.neck = neck
        self.depth_net = DepthNet(
            in_channels, context_channels, depth_bins, self.depth_options,
            grid.z_size if self.lift_options.heights else 0)
        self.collapse = conv_bn_relu(grid.z_size * context_channels, out_channels, 1)
        self.refine = nn.Identity()
        if refine_layers:
            self.refine = residual_stage(BasicBlock, out_channels, out_channels, refine_layers, 1)

        self.cache = LiftTableCache(self.lift_options.cache_size)
        self._feature_hw: dict[tuple[int, int], tuple[int, int]] = {}

    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """Images and the tables by which voxels read them.

        Returns:
            `images` `(B, N, 3, H, W)` normalised float; the tables of `LiftTables`, each `(B, V, S)`;
            `calibration` `(B, N, 18)` where the depth network is camera-aware; `lidar_depth` `(B, N, H, W)`
            metres where it reads the LiDAR's.

        Raises:
            ValueError: the batch has no cameras.
        """
        if batch.images_BN3HW is None:
            raise ValueError(
                'CameraEncoder.prepare: the batch has no images (was the camera left out of the data?)'
            )
        image_hw = tuple(batch.images_BN3HW.shape[-2:])
        geometry = self.lift_geometry(image_hw)

        # training moves the calibration with every augmentation: nothing to remember
        make_tables = lift_tables if self.training else self.cache
        tables = make_tables(
            batch.K_BN33, batch.ego_T_cam_BN44, batch.camera_present_BN, geometry, batch.lens_BN10)

        inputs = {'images': batch.images_BN3HW, **tables.tensors()}
        if self.depth_options.camera_aware:
            inputs['calibration'] = calibration_numbers(batch)
        if self.depth_options.lidar_strides:
            inputs['lidar_depth'] = lidar_depth_images(batch)
        return inputs

    def lift_geometry(self, image_hw: tuple[int, int]) -> LiftGeometry:
        """What the tables depend on for images of this size, besides calibration."""
        options = self.lift_options
        return LiftGeometry(
            self.grid, self.depth_bins, image_hw, self.feature_hw(image_hw), options.slots, options.read,
            options.interpolate)

    @torch.no_grad()
    def feature_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of what is lifted for images of this size (computed once, by shapes alone)."""
        if image_hw not in self._feature_hw:
            self._feature_hw[image_hw] = probe_feature_hw(self.backbone, self.neck, image_hw)
        return self._feature_hw[image_hw]

    # the names are those of `prepare`
    def forward(
        self,
        images: Tensor,
        pixel_index: Tensor,
        depth_index: Tensor,
        far_weight: Tensor,
        pixel_weight: Tensor | None = None,
        calibration: Tensor | None = None,
        lidar_depth: Tensor | None = None,
    ) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)`, voxels `(B, C, Z, Y, X)` and depth logits."""
        context, *logits = self.context_and_places(images, calibration, lidar_depth)
        tables = LiftTables(pixel_index, depth_index, far_weight, pixel_weight)
        bev, voxels = self.lift(context, logits, tables)

        names = ('depth_logits_BNDhw', 'height_logits_BNZhw')
        return SensorFeature(bev, voxels, dict(zip(names, logits, strict=False)))

    def context_and_places(
        self, images: Tensor, calibration: Tensor | None = None, lidar_depth: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Images `(B, N, 3, H, W)` -> context `(B, N, C, h, w)` and depth logits `(B, N, D, h, w)`.

        Where heights are estimated, their logits `(B, N, Z + 1, h, w)` too.
        """
        of_image = [None if part is None else part.flatten(0, 1) for part in (calibration, lidar_depth)]
        cameras = images.shape[:2]
        features = first_map(self.neck(self.backbone(images.flatten(0, 1))))  # (BN, C_in, h, w)
        parts = self.depth_net(features, *of_image)
        return tuple(part.unflatten(0, cameras) for part in parts)

    def lift(self, context: Tensor, logits: Sequence[Tensor], tables: LiftTables) -> tuple[Tensor, Tensor]:
        """Context `(B, N, C, h, w)` and logits of depth (and height) -> BEV map and voxels."""
        voxels = self.read(context, logits, tables)
        b, c, z, y, x = voxels.shape

        # what a ground cell holds lies together, so its heights become channels without being moved
        pillars = voxels.permute(0, 3, 4, 2, 1).reshape(b, y, x, z * c).permute(0, 3, 1, 2)
        return self.refine(self.collapse(laid_out(pillars))), voxels

    def read(self, context: Tensor, logits: Sequence[Tensor], tables: LiftTables) -> Tensor:
        """Context and logits as in `lift` -> voxels `(B, C, Z, Y, X)`, heights innermost in memory."""
        z, y, x = self.grid.shape_ZYX

        # one row a pixel: (B, N * h * w, D) and (B, N * h * w, C)
        depth, *height = (part.float().permute(0, 1, 3, 4, 2).softmax(-1).flatten(1, 3) for part in logits)
        pixels = context.permute(0, 1, 3, 4, 2).flatten(1, 3)

        weights = depth_weights(depth, tables.depth_index, tables.far_weight)  # (B, V, S)
        if height:
            by_height = layer_weights(height[0], tables.pixel_index)
            weights = weights + by_height - weights * by_height  # that depth or height is right
        if tables.pixel_weight is not None:
            weights = weights * tables.pixel_weight

        voxels = gather_sum(pixels, tables.pixel_index, weights)  # (B, V, C), voxels in (y, x, z) order
        return voxels.unflatten(1, (y, x, z)).permute(0, 4, 3, 1, 2)

    def loss(self, feature: SensorFeature, batch: Batch) -> dict[str, Tensor]:
        """Depth supervision by the car's own LiDAR; nothing where the configuration has no LiDAR."""
        options = self.depth_options
        if not options.loss_weight or batch.lidar_points is None:
            return {}
        logits = feature.auxiliary['depth_logits_BNDhw']
        depth_m = lidar_depth_map(batch, tuple(logits.shape[-2:]))
        loss = depth_loss(logits, depth_m, self.depth_bins, options.loss_kind)
        return {'depth': options.loss_weight * loss}


def first_map(maps: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first of a neck's maps, or its only one."""
    return maps if isinstance(maps, Tensor) else maps[0]


def probe_feature_hw(backbone: nn.Module, neck: nn.Module, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Size of the first map behind backbone and neck, from tensors that have shapes but no values."""
    parts = [deepcopy(part).to('meta') for part in (backbone, neck)]
    for part in parts:
        part.eval()  # apart: `train` of OpenMMLab's backbones returns None
    maps = parts[1](parts[0](torch.empty(1, 3, *image_hw, device='meta')))
    return tuple(first_map(maps).shape[-2:])
