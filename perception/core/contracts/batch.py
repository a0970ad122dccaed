"""What a model reads: samples as tensors."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..lens import LENS_ROW
from .checks import check_shape
from .sample import Frame


@dataclass(frozen=True)
class Batch:
    """B samples as tensors. Sensors that the configuration leaves out are None.

    Attributes:
        frames: B frames (tokens, poses).
        images_BN3HW: uint8 RGB, or float once normalised by the model's pre-processor.
        K_BN33, ego_T_cam_BN44: float32 as in `CameraRig`.
        camera_present_BN: bool.
        lidar_points: B tensors `(P, 6)` float32.
        lidar_present_B: bool.
        radar_points: B tensors `(P, 8)` float32.
        radar_present_BR: bool.
        before: earlier frames of the same B samples, the oldest first, where these are clips.
        lens_BN10: float32 rows of `core.lens.rows`, one a camera; None where all are pinholes.
    """

    frames: tuple[Frame, ...]
    images_BN3HW: torch.Tensor | None = None
    K_BN33: torch.Tensor | None = None
    ego_T_cam_BN44: torch.Tensor | None = None
    camera_present_BN: torch.Tensor | None = None
    lidar_points: tuple[torch.Tensor, ...] | None = None
    lidar_present_B: torch.Tensor | None = None
    radar_points: tuple[torch.Tensor, ...] | None = None
    radar_present_BR: torch.Tensor | None = None
    before: tuple[Batch, ...] = ()
    lens_BN10: torch.Tensor | None = None

    def __post_init__(self) -> None:
        b = len(self.frames)
        if self.images_BN3HW is not None:
            n = self.images_BN3HW.shape[1]
            check_shape('Batch', 'images_BN3HW', self.images_BN3HW, b, n, 3, 'H', 'W')
            check_shape('Batch', 'K_BN33', self.K_BN33, b, n, 3, 3)
            check_shape('Batch', 'ego_T_cam_BN44', self.ego_T_cam_BN44, b, n, 4, 4)
            check_shape('Batch', 'camera_present_BN', self.camera_present_BN, b, n)
            if self.lens_BN10 is not None:
                check_shape('Batch', 'lens_BN10', self.lens_BN10, b, n, LENS_ROW)

        if self.lidar_points is not None:
            check_shape('Batch', 'lidar_present_B', self.lidar_present_B, b)
        if self.radar_points is not None:
            check_shape('Batch', 'radar_present_BR', self.radar_present_BR, b, 'R')
        for earlier in self.before:
            if len(earlier) != b:
                raise ValueError(f'Batch.before: expected {b} samples in each, found {len(earlier)}')

    def __len__(self) -> int:
        return len(self.frames)

    def present(self) -> dict[str, torch.Tensor]:
        """Per configured sensor, bool `(B,)`: does the sample have anything from it."""
        present = {}
        if self.camera_present_BN is not None:
            present['camera'] = self.camera_present_BN.any(1)
        if self.lidar_present_B is not None:
            present['lidar'] = self.lidar_present_B
        if self.radar_present_BR is not None:
            present['radar'] = self.radar_present_BR.any(1)
        return present

    def select(self, indices: Sequence[int]) -> Batch:
        """Some samples of the batch, in this order."""
        def pick(value: object) -> object:
            if value is self.before:
                return tuple(earlier.select(indices) for earlier in self.before)
            if isinstance(value, torch.Tensor):
                return value[list(indices)]
            return tuple(value[i] for i in indices) if isinstance(value, tuple) else value
        return replace(self, **{name: pick(getattr(self, name)) for name in self.__dataclass_fields__})

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; frames stay where they are."""
        def move(value: object) -> object:
            if value is self.before:
                return tuple(earlier.to(device) for earlier in self.before)
            if isinstance(value, torch.Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
                return tuple(v.to(device, non_blocking=True) for v in value)
            return value
        return replace(self, **{name: move(getattr(self, name)) for name in self.__dataclass_fields__})
