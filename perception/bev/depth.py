"""How far is each pixel: a network that spreads it over depth bins, supervised by the car's own LiDAR."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Batch
from ..core.processes import shared_count
from .ops.blocks import conv_bn_relu
from .ops.depth_map import nearest_depth
from .ops.norms import known_unless_present
from .ops.rays import camera_rays
from .records import DEPTH_LOSSES, DepthBins, DepthOptions

CALIBRATION_NUMBERS = 18
LIDAR_CHANNELS = 64
"""What is made of an image of the LiDAR's depths."""


class DepthNet(nn.Module):
    """Image features -> what each pixel shows (context) and how far it may be (depth logits).

    Args:
        in_channels: of the features.
        context_channels: C of the lifted context.
        bins: depth bins.
        options: `camera_aware`: the calibration weighs the shared channels, once for context and once for
            depth (squeeze-and-excitation, as in BEVDepth: Li et al., 2023, arXiv 2206.10092, section 3.3).
            How large an object looks tells its distance only together with the focal length, which resizing
            an image changes. `lidar_strides`: an image of the LiDAR's depths is made features and laid beside
            those of the camera, as in BEVFusion (Liu et al., 2023, arXiv 2205.13542). `layers`: of the shared
            convolutions.
        heights: Z, over which heights (and none of them) a pixel is spread too; 0 leaves this out.
    """

    def __init__(
        self,
        in_channels: int,
        context_channels: int,
        bins: DepthBins,
        options: DepthOptions | None = None,
        heights: int = 0,
    ) -> None:
        super().__init__()
        options = options or DepthOptions()
        self.bins = bins
        self.context_channels = context_channels

        # in one flat row, as published
        lidar = LIDAR_CHANNELS if options.lidar_strides else 0
        self.shared = conv_bn_relu(lidar + in_channels, in_channels, 3)
        for _ in range(options.layers - 1):
            self.shared.extend(conv_bn_relu(in_channels, in_channels, 3))
        self.depth = nn.Conv2d(in_channels, bins.count, 1)
        self.context = nn.Conv2d(in_channels, context_channels, 1)
        self.height = nn.Conv2d(in_channels, heights + 1, 1) if heights else None

        self.gate = calibration_gate(in_channels) if options.camera_aware else None
        self.lidar = lidar_layers(options.lidar_strides) if options.lidar_strides else None

    def forward(
        self, features: Tensor, calibration: Tensor | None = None, lidar_depth: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Features `(BN, C_in, h, w)` -> context `(BN, C, h, w)` and depth logits `(BN, D, h, w)` in float32.

        Where it estimates heights, their logits `(BN, Z + 1, h, w)` too, the last one for none of them.
        `calibration` `(BN, 18)` from `calibration_numbers` where the network is camera-aware; `lidar_depth`
        `(BN, H, W)` from `lidar_depth_images` where it reads one.

        Raises:
            ValueError: the strides do not bring the LiDAR's depths to the features' size.
        """
        if self.lidar is not None:
            features = torch.cat([self._lidar_features(lidar_depth, features.shape[-2:]), features], 1)
        hidden = self.shared(features)
        if self.gate is None:
            return self.context(hidden), *self._places(hidden)

        # twice the sigmoid: a gate that knows nothing passes everything
        gates = self.gate(calibration)[..., None, None].to(hidden.dtype) * 2
        context_gate, depth_gate = gates.chunk(2, 1)
        return self.context(hidden * context_gate), *self._places(hidden * depth_gate)

    def _lidar_features(self, lidar_depth: Tensor, size_hw: Sequence[int]) -> Tensor:
        """`(BN, H, W)` metres -> `(BN, 64, h, w)`; without any point, what evaluation makes of that."""
        seen = lidar_depth if self.training else lidar_depth.new_ones(1)
        with known_unless_present(self.lidar, seen > 0):
            features = self.lidar(lidar_depth[:, None])
        if features.shape[-2:] != tuple(size_hw):
            raise ValueError(
                f'DepthOptions.lidar_strides: expected a map of {tuple(size_hw)} cells from an image of '
                f'{tuple(lidar_depth.shape[1:])} pixels, found {tuple(features.shape[-2:])}')
        return features

    def _places(self, hidden: Tensor) -> tuple[Tensor, ...]:
        parts = (self.depth,) if self.height is None else (self.depth, self.height)
        return tuple(part(hidden).float() for part in parts)


def calibration_gate(channels: int) -> nn.Sequential:
    """Calibration `(BN, 18)` -> weights `(BN, 2 * channels)` in 0..1."""
    return nn.Sequential(
        nn.Linear(CALIBRATION_NUMBERS, channels), nn.ReLU(inplace=True), nn.Linear(channels, 2 * channels),
        nn.Sigmoid())


def lidar_layers(strides: Sequence[int]) -> nn.Sequential:
    """Metres `(BN, 1, H, W)` -> `(BN, 64, h, w)`, layers and widths as in BEVFusion."""
    return nn.Sequential(
        *conv_bn_relu(1, 8, 1), *conv_bn_relu(8, 32, 5, strides[0]),
        *conv_bn_relu(32, LIDAR_CHANNELS, 5, strides[1]))


def lidar_depth_images(batch: Batch) -> Tensor:
    """Depth of the nearest LiDAR point in each pixel, of all its sweeps, float32 `(B, N, H, W)` metres.

    0 where no point falls: everywhere where the camera is absent or the sample has no LiDAR. Frames, lenses
    and augmentation as in `lidar_depth_map`.
    """
    depth_m = lidar_depth_map(batch, tuple(batch.images_BN3HW.shape[-2:]), torch.inf)
    return torch.where(depth_m.isfinite(), depth_m, 0.0)


def calibration_numbers(batch: Batch) -> Tensor:
    """What a camera-aware network may know of each camera, float32 `(B, N, 18)`.

    The first two rows of K in image widths and heights, then the first three rows of ego_T_cam (metres). Not
    the distortion: weights of pinhole cameras have no inputs for it.
    """
    height, width = batch.images_BN3HW.shape[-2:]
    size = torch.tensor([width, height], dtype=torch.float32, device=batch.K_BN33.device)
    K_BN23 = batch.K_BN33[..., :2, :].float() / size[:, None]
    return torch.cat([K_BN23.flatten(2), batch.ego_T_cam_BN44[..., :3, :].float().flatten(2)], -1)


def lidar_depth_map(batch: Batch, feature_hw: tuple[int, int], max_time_lag_s: float = 0.01) -> Tensor:
    """Depth of the nearest LiDAR point in each feature cell, as the cameras see it.

    Only points of the key frame (`time_lag_s` up to `max_time_lag_s`) are used: older sweeps smear what
    moves.

    Returns:
        `(B, N, h, w)` float32 metres along the camera's axis, from a fisheye the distance; infinity where no
        point falls, where the camera is absent or where the sample has no LiDAR.
    """
    b, n = batch.camera_present_BN.shape
    image_hw = tuple(batch.images_BN3HW.shape[-2:])
    nearest = torch.full(
        (b, n, feature_hw[0] * feature_hw[1]), torch.inf, device=batch.images_BN3HW.device
    )
    rays_T_ego_BN34, lenses_BN16 = camera_rays(batch.K_BN33, batch.ego_T_cam_BN44, batch.lens_BN10)

    for i in range(b):
        if batch.lidar_points is None or not batch.lidar_present_B[i]:
            continue
        points = batch.lidar_points[i]
        usable = (points[:, 5] <= max_time_lag_s) & points[:, :3].isfinite().all(1)
        cameras = batch.camera_present_BN[i]
        nearest[i, cameras] = nearest_depth(
            points[usable, :3], rays_T_ego_BN34[i, cameras], lenses_BN16[i, cameras.cpu()], image_hw,
            feature_hw
        )
    return nearest.view(b, n, *feature_hw)


def depth_loss(
    logits_BNDhw: Tensor, depth_BNhw: Tensor, bins: DepthBins, kind: str = 'cross_entropy'
) -> Tensor:
    """Loss of the depth distribution against the LiDAR.

    The mean over cells with a point inside the covered range, of all training processes together.

    Args:
        logits_BNDhw: before the softmax.
        depth_BNhw: from `lidar_depth_map`, infinity where unknown.
        bins: depth bins.
        kind: 'cross_entropy', or 'binary': binary cross-entropy of every bin's probability against the
            one-hot truth, summed over the bins, as in BEVDepth (Li et al., 2023, arXiv 2206.10092).

    Returns:
        Scalar; zero (with the graph whole) where nothing is known.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in DEPTH_LOSSES:
        raise ValueError(f'depth_loss.kind: expected one of {DEPTH_LOSSES}, found {kind!r}')
    coordinate = bins.coordinate(depth_BNhw)
    known = (coordinate >= 0) & (coordinate < bins.count)
    count = shared_count(known.sum())
    if not known.any():
        return logits_BNDhw.sum() * 0

    logits = logits_BNDhw.float().permute(0, 1, 3, 4, 2)[known]  # (cells, D)
    target = coordinate[known].long()
    if kind == 'cross_entropy':
        return F.cross_entropy(logits, target, reduction='sum') / count

    log_p = logits.log_softmax(-1)
    log_not_p = torch.log1p(-log_p.exp().clamp(max=1 - 1e-6))
    truth = F.one_hot(target, bins.count).to(log_p.dtype)
    return -(truth * log_p + (1 - truth) * log_not_p).sum() / count
