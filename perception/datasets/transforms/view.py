"""Cameras of another make, brought to what a model was trained to see: pixels per radian, and the horizon.

A network learns how large things are in pixels and where the road begins. So an image of another shape is
resized by its focal length and cut around the horizon of its calibration, not by its width and at its lower
border.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...core.lens import Distortion
from ...core.lens.projection import lens_unproject
from ...core.rig.view import focal_length_px, horizon_pixel

BORDERS = ('crop', 'black')
FOCAL_TOLERANCE = 0.1
"""A focal length within this fraction of a trained one is as trained."""
HORIZON_TOLERANCE = 0.12
"""Of the final height, likewise: nuScenes' own cars differ by half of it."""


@dataclass(frozen=True)
class Look:
    """One camera as its picture is: what decides how it is prepared.

    Attributes:
        K_33: intrinsics, pixels.
        ego_T_cam: (4, 4).
        size_hw: rows and columns.
        distortion: its lens; None for a pinhole.
    """

    K_33: np.ndarray
    ego_T_cam: np.ndarray
    size_hw: tuple[int, int]
    distortion: Distortion | None = None

    @cached_property
    def focal_px(self) -> float:
        """Pixels per radian."""
        return focal_length_px(self.K_33)

    @cached_property
    def horizon(self) -> np.ndarray | None:
        """Pixel of the horizon straight ahead."""
        return horizon_pixel(self.K_33, self.ego_T_cam, self.distortion)


@dataclass(frozen=True)
class TrainedView:
    """The pictures that a model was trained with, before they were resized; nuScenes' by default.

    Args:
        size_hw: rows and columns.
        focal_px: focal lengths of its cameras; another camera is brought to the nearest.
        horizon_px: row of the horizon.
        borders: what testing does to a camera that differs: 'crop' brings focal length and horizon to the
            trained ones and loses what lies outside; 'black' keeps all of the picture, smaller where it must
            be, with black borders.

    Raises:
        ValueError: names the field.
    """

    size_hw: tuple[int, int] = (900, 1600)
    focal_px: Sequence[float] = (1260.0, 805.0)
    horizon_px: float = 480.0
    borders: str = 'crop'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'size_hw', tuple(self.size_hw))
        object.__setattr__(self, 'focal_px', tuple(self.focal_px))
        if len(self.size_hw) != 2 or min(self.size_hw) < 1:
            raise ValueError(f'view.size_hw: expected rows and columns, found {self.size_hw}')
        if not self.focal_px or not all(0 < focal < math.inf for focal in self.focal_px):
            raise ValueError(f'view.focal_px: expected pixels above 0, found {self.focal_px}')
        if not 0 <= self.horizon_px < self.size_hw[0]:
            raise ValueError(f'view.horizon_px: expected a row of {self.size_hw[0]}, found {self.horizon_px}')
        if self.borders not in BORDERS:
            raise ValueError(f'view.borders: expected one of {", ".join(BORDERS)}, found {self.borders!r}')

    def nearest_focal_px(self, look: Look) -> float:
        """The trained focal length that a camera's is nearest to, when its width becomes the trained one."""
        focal_px = look.focal_px * self.size_hw[1] / look.size_hw[1]
        return min(self.focal_px, key=lambda trained: abs(math.log(focal_px / trained)))

    def matches(self, look: Look, window_hw: tuple[float, float], tolerance_px: float) -> bool:
        """Whether resizing by width and cutting at the lower border already gives what was trained.

        Args:
            look: the camera.
            window_hw: the middle of its picture that is taken.
            tolerance_px: how far off the horizon may be, in rows of this view.
        """
        scale = self.size_hw[1] / look.size_hw[1]
        off = math.log(look.focal_px * scale / self.nearest_focal_px(look))
        if abs(off) > math.log(1 + FOCAL_TOLERANCE):
            return False

        below_px = ((look.size_hw[0] + window_hw[0]) / 2 - 0.5 - look.horizon[1]) * scale
        return abs(below_px - (self.size_hw[0] - 0.5 - self.horizon_px)) <= tolerance_px

    def window_T_in(self, look: Look) -> np.ndarray:
        """`(3, 3)`: the picture as a trained one, its middle in the middle, the horizon in its row."""
        factor = self.nearest_focal_px(look) / look.focal_px
        here = (look.size_hw[1] - 1) / 2, look.horizon[1]
        return _similarity(factor, here, ((self.size_hw[1] - 1) / 2, self.horizon_px))

    def whole_T_in(self, look: Look, out_T_in: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """`(3, 3)`: all of the picture inside `size_hw`, as near to `out_T_in` as that allows."""
        factor = min(out_T_in[0, 0], size_hw[1] / look.size_hw[1], size_hw[0] / look.size_hw[0])
        row = (out_T_in @ [0, look.horizon[1], 1])[1]
        top = row + 0.5 - factor * (look.horizon[1] + 0.5)
        top = min(max(top, 0.0), size_hw[0] - factor * look.size_hw[0])
        return _similarity(
            factor, ((look.size_hw[1] - 1) / 2, -0.5), ((size_hw[1] - 1) / 2, top - 0.5))


def _similarity(
    factor: float, point: tuple[float, float], goes_to: tuple[float, float]
) -> np.ndarray:
    """Scaling by `factor` that brings a pixel to another place."""
    right, down = (there - factor * here for there, here in zip(goes_to, point, strict=True))
    return np.array([[factor, 0, right], [0, factor, down], [0, 0, 1.0]])


# -------------------------------------------------------------------- what became of a picture

@dataclass(frozen=True)
class PreparedView:
    """What a preparation made of one camera's picture.

    Attributes:
        name: of the camera.
        source_hw, size_hw: rows and columns before and after.
        as_trained: whether the camera was prepared as those of training, being like them.
        factor: how much it was resized.
        focal_px, trained_focal_px: pixels per radian now, and of the trained camera nearest to it (None where
            the configuration does not say).
        horizon_row, trained_horizon_row: where the horizon is now, and where it is in training.
        lost_deg: what lies outside now, in degrees: 'top', 'bottom', 'left', 'right'.
        black_px: rows and columns of the new picture without content, likewise.
    """

    name: str
    source_hw: tuple[int, int]
    size_hw: tuple[int, int]
    as_trained: bool
    factor: float
    focal_px: float
    trained_focal_px: float | None
    horizon_row: float | None
    trained_horizon_row: float | None
    lost_deg: dict[str, float]
    black_px: dict[str, int]

    @property
    def horizon_lost(self) -> bool:
        """Whether the horizon lies outside the new picture."""
        return self.horizon_row is not None and not -0.5 <= self.horizon_row <= self.size_hw[0] - 0.5

    def to_record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        height, width = self.source_hw
        parts = [f'{self.name}: {width} x {height} pixels, resized by {self.factor:.3f}']
        if self.trained_focal_px is not None:
            parts.append(f'{self.focal_px:.0f} pixels per radian (trained: {self.trained_focal_px:.0f})')
        if self.horizon_row is None:
            parts.append('no horizon')
        else:
            trained = self.trained_horizon_row
            place = '' if trained is None else f' (trained: {trained:.0f})'
            parts.append(f'horizon in row {self.horizon_row:.0f}{place} of {self.size_hw[0]}')

        lost = ', '.join(f'{value:.1f} {side}' for side, value in self.lost_deg.items() if value >= 0.05)
        black = ', '.join(f'{value} {side}' for side, value in self.black_px.items() if value)
        parts.append(f'lost, in degrees: {lost or "nothing"}')
        parts += [f'black, in pixels: {black}'] if black else []
        return '; '.join(parts)


def prepared_view(
    name: str, look: Look, out_T_in: np.ndarray, size_hw: tuple[int, int], trained: dict[str, Any]
) -> PreparedView:
    """Say what became of a picture.

    Args:
        name: of the camera.
        look: it before.
        out_T_in: `(3, 3)`, without rotation.
        size_hw: of the new picture.
        trained: `as_trained`, `trained_focal_px` and `trained_horizon_row`.
    """
    horizon = look.horizon
    source = np.array([[-0.5, -0.5], [look.size_hw[1] - 0.5, look.size_hw[0] - 0.5]])
    final = np.array([[-0.5, -0.5], [size_hw[1] - 0.5, size_hw[0] - 0.5]])
    kept = np.sort((final - out_T_in[:2, 2]) / np.diag(out_T_in)[:2], axis=0)
    kept = np.clip(kept, source[0], source[1])

    (left, top), (right, bottom) = _angles_deg(look, kept) - _angles_deg(look, source)
    filled = np.sort(source * np.diag(out_T_in)[:2] + out_T_in[:2, 2], axis=0)
    black = np.maximum(0, np.round(np.stack([filled[0] - final[0], final[1] - filled[1]]))).astype(int)
    return PreparedView(
        name, look.size_hw, size_hw, factor=float(abs(out_T_in[0, 0])),
        focal_px=look.focal_px * float(abs(out_T_in[0, 0])),
        horizon_row=None if horizon is None else float((out_T_in @ [*horizon, 1])[1]),
        lost_deg={'top': abs(top), 'bottom': abs(bottom), 'left': abs(left), 'right': abs(right)},
        black_px={
            'top': black[0, 1].item(), 'bottom': black[1, 1].item(), 'left': black[0, 0].item(),
            'right': black[1, 0].item()},
        **trained)


def _angles_deg(look: Look, corners_22: np.ndarray) -> np.ndarray:
    """Directions of the columns and rows of two corners `(2, 2)`, degrees.

    Each is that of the pixel on the line through the principal point; where the lens sees nothing there, the
    end of its field on that side.
    """
    centre = look.K_33[:2, 2]
    pixels = np.tile(centre, (2, 2, 1))
    pixels[:, 0, 0], pixels[:, 1, 1] = corners_22[:, 0], corners_22[:, 1]

    rays = lens_unproject(look.K_33, pixels.reshape(4, 2), np.ones(4), look.distortion).reshape(2, 2, 3)
    along = np.stack([rays[:, 0, 0], rays[:, 1, 1]], 1)
    angle_rad = np.arctan2(along, rays[..., 2])
    if look.distortion is not None:
        end_rad = np.sign(corners_22 - centre) * look.distortion.field_rad
        angle_rad = np.where(np.isnan(angle_rad), end_rad, angle_rad)
    return np.degrees(angle_rad)
