"""Records that travel between the files of this room: what an encoder returns, and the options of its parts.

Options come from configurations as plain dictionaries; `core.config.build_record` turns them into these
frozen records, which check themselves when they are made.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..core.grid import BEVGrid
from ..registry import MODELS

SPACINGS = ('uniform', 'increasing')
DEPTH_LOSSES = ('cross_entropy', 'binary')
READS = ('nearest', 'bilinear')


@dataclass(frozen=True)
class SensorFeature:
    """What an encoder makes of its sensor.

    Attributes:
        bev_BCYX: map on the trunk's grid.
        voxels_BCZYX: the same ground with heights, where the encoder has them.
        auxiliary: tensors that only the encoder's own loss reads (never part of an exported graph).
    """

    bev_BCYX: Tensor
    voxels_BCZYX: Tensor | None = None
    auxiliary: dict[str, Tensor] = field(default_factory=dict)


# -------------------------------------------------------------------- camera

@MODELS.register_module()
@dataclass(frozen=True)
class DepthBins:
    """D intervals of depth along a camera's axis.

    Args:
        low_m: start of the first bin.
        high_m: end of the last bin.
        count: D.
        spacing: 'uniform', or 'increasing': bin i is (i + 1) times as long as the first (linear-increasing
            discretisation, Tang et al., 2020, arXiv 2006.13084; Reading et al., 2021, arXiv 2103.01100).

    Raises:
        ValueError: an empty range, fewer than two bins, or an unknown spacing.
    """

    low_m: float = 1.0
    high_m: float = 60.0
    count: int = 59
    spacing: str = 'uniform'

    def __post_init__(self) -> None:
        if not 0 <= self.low_m < self.high_m:
            raise ValueError(f'DepthBins: expected 0 <= low_m < high_m, found {self.low_m}, {self.high_m}')
        if self.count < 2:
            raise ValueError(f'DepthBins.count: expected at least 2 bins, found {self.count}')
        if self.spacing not in SPACINGS:
            raise ValueError(f'DepthBins.spacing: expected one of {SPACINGS}, found {self.spacing!r}')

    def coordinate(self, depth_m: Tensor) -> Tensor:
        """Continuous bin coordinate of depths `(*)`: bin i spans [i, i + 1).

        Depths outside the range lie outside [0, D).
        """
        fraction = (depth_m - self.low_m) / (self.high_m - self.low_m)
        if self.spacing == 'uniform':
            return fraction * self.count

        # the quadratic formula, solved for the bin: fraction = i (i + 1) / (D (D + 1))
        discriminant = (1 + 4 * fraction * self.count * (self.count + 1)).clamp(min=0)
        return torch.where(fraction < 0, torch.full_like(fraction, -1.0), (discriminant.sqrt() - 1) / 2)

    def depth_m(self, coordinate: Tensor) -> Tensor:
        """Inverse of `coordinate`."""
        fraction = coordinate / self.count
        if self.spacing == 'increasing':
            fraction = fraction * (coordinate + 1) / (self.count + 1)
        return self.low_m + fraction * (self.high_m - self.low_m)

    def centres_m(self) -> np.ndarray:
        """Depth in the middle of each bin, float32 `(D,)`."""
        return self.depth_m(torch.arange(self.count, dtype=torch.float64) + 0.5).float().numpy()


@dataclass(frozen=True)
class DepthOptions:
    """How a camera encoder estimates depth and learns it.

    Args:
        camera_aware: the depth network reads the calibration, which then is one more graph input.
        loss_weight: of the supervision by LiDAR; 0 leaves it out.
        loss_kind: one of `DEPTH_LOSSES`, see `depth.depth_loss`.
        lidar_strides: of the layers that bring an image of the LiDAR's depths to the features' size, which
            the depth network then reads too; (4, 2) for features of stride 8. It is one more graph input.
            None: images alone.
        layers: 3x3 convolutions before context and depth part.

    Raises:
        ValueError: an unknown kind of loss, strides below one, or no layers.
    """

    camera_aware: bool = False
    loss_weight: float = 1.0
    loss_kind: str = 'cross_entropy'
    lidar_strides: tuple[int, ...] | None = None
    layers: int = 1

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f'DepthOptions.layers: expected at least 1, found {self.layers}')
        strides = self.lidar_strides
        if strides is not None and not (
                isinstance(strides, Sequence) and len(strides) == 2
                and all(type(stride) is int and stride >= 1 for stride in strides)):
            raise ValueError(
                f'DepthOptions.lidar_strides: expected two whole strides of at least 1, found {strides!r}')
        if self.loss_kind not in DEPTH_LOSSES:
            raise ValueError(
                f'DepthOptions.loss_kind: expected one of {DEPTH_LOSSES}, found {self.loss_kind!r}'
            )


@dataclass(frozen=True)
class LiftOptions:
    """How voxels read the images.

    Args:
        slots: cameras a voxel may read (2 covers the overlap of a ring of cameras).
        read: 'bilinear': the four pixels around the voxel's place in the image; 'nearest': the one that holds
            it. Towards the horizon one row of features covers many metres of road (at stride 8 and 280 pixels
            of focal length 8 m at a distance of 20): by 'nearest' all its cells read the same.
        heights: each pixel also estimates at which of the grid's heights lies what it shows, and a voxel is
            read with the probability that its depth or its height is right. A road at any distance is read
            where it lies, however blurred its depth.
        interpolate: read two neighbouring depth bins linearly; False reads the one that holds the voxel's
            centre.
        cache_size: calibrations whose tables are kept in evaluation.

    Raises:
        ValueError: no slots, or an unknown read.
    """

    slots: int = 2
    read: str = 'nearest'
    heights: bool = False
    interpolate: bool = True
    cache_size: int = 8

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f'LiftOptions.slots: expected at least 1, found {self.slots}')
        if self.read not in READS:
            raise ValueError(f'LiftOptions.read: expected one of {READS}, found {self.read!r}')


@dataclass(frozen=True)
class LiftGeometry:
    """What the lift's tables depend on besides calibration.

    Args:
        grid: with heights.
        bins: depth bins.
        image_hw: pixels of an image.
        feature_hw: cells of its feature map.
        slots: see `LiftOptions`.
        read: see `LiftOptions`.
        interpolate: see `LiftOptions`.
    """

    grid: BEVGrid
    bins: DepthBins
    image_hw: tuple[int, int]
    feature_hw: tuple[int, int]
    slots: int = 2
    read: str = 'nearest'
    interpolate: bool = True


# -------------------------------------------------------------------- LiDAR and radar

@dataclass(frozen=True)
class PillarSizes:
    """Fixed sizes of one sample in an engine.

    Args:
        points: P.
        pillars: M.

    Raises:
        ValueError: a size below one.
    """

    points: int
    pillars: int

    def __post_init__(self) -> None:
        if self.points < 1 or self.pillars < 1:
            raise ValueError(f'PillarSizes: expected at least one point and one pillar, found {self}')


@dataclass(frozen=True)
class VoxelSizes:
    """How much of a cloud becomes voxels.

    Args:
        points: of a voxel that count, the first in the cloud's order.
        voxels: of a sample, the first that the cloud's order meets (the key frame lies before its sweeps),
            as published; an engine has room for so many.

    Raises:
        ValueError: a size below one.
    """

    points: int = 10
    voxels: int = 120_000

    def __post_init__(self) -> None:
        if self.points < 1 or self.voxels < 1:
            raise ValueError(f'VoxelSizes: expected at least one point and one voxel, found {self}')


@dataclass(frozen=True)
class SensorAxes:
    """The frame that published weights were trained in, as it lies in ours.

    Args:
        origin_m: its origin in ego metres.
        quarter_turns: counter-clockwise, from ego's axes to its: nuScenes' LiDAR looks along y, x to the
            right, which is -1.

    Raises:
        ValueError: no three numbers, or no whole turns.
    """

    origin_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quarter_turns: int = 0

    def __post_init__(self) -> None:
        if len(self.origin_m) != 3:
            raise ValueError(f'SensorAxes.origin_m: expected x, y, z in metres, found {self.origin_m}')
        if self.quarter_turns not in range(-3, 4):
            raise ValueError(f'SensorAxes.quarter_turns: expected -3 to 3, found {self.quarter_turns!r}')

    def turn(self) -> list[list[int]]:
        """2 x 2: x and y of a direction in this frame -> in ego."""
        cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[self.quarter_turns % 4]
        return [[cosine, -sine], [sine, cosine]]


@dataclass(frozen=True)
class SpreadOptions:
    """How far a radar target reaches (see `ops.rcs_spread`).

    Args:
        max_cells: largest radius.
        per_dbsm: radius in cells that a target at the far corner of the grid gains per dBsm.
        slots: S, how many pillars may reach one cell: the largest weights stay.
    """

    max_cells: int = 3
    per_dbsm: float = 0.1
    slots: int = 4


@dataclass(frozen=True)
class StreamOptions:
    """The radar's dual-stream backbone (see `radar_streams`).

    Args:
        blocks: pairs of a point block and a transformer block.
        heads: of their attention; divides the width.
    """

    blocks: int = 2
    heads: int = 2
