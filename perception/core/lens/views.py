"""What a lens shows as a few pinhole views, for renderers that know straight lines alone.

A lens within `NARROW` of its axis needs one wide view; others the faces of a cube about the camera, those
that any pixel looks into. A view has as many pixels as the finest part of the picture asks for, at most
`LARGEST_PX` a side, and no more of its face than is looked at.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .distortion import Distortion
from .projection import image_rays

NARROW = 1.5
"""Largest |x / z| and |y / z| of one view: 56 degrees from the axis."""
LARGEST_PX = 4096
_FINEST_SHARE = 1.0

# camera axes of the cube's faces as columns: ahead, right, left, below, above, behind
_FACES = np.array([
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
    [[1, 0, 0], [0, 0, 1], [0, -1, 0]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    [[-1, 0, 0], [0, 1, 0], [0, 0, -1]]], dtype=np.float64)


@dataclass(frozen=True)
class LensView:
    """A pinhole view of a part of what the lens shows, and where the picture's pixels lie in it.

    Attributes:
        cam_R_view: (3, 3); the view's own axes are x right, y down, z forward.
        K_33: of the view, one focal length, no skew.
        size_hw: of the view.
        pixel_P: flat indices of the picture's pixels that this view fills.
        place_P2: (u, v) of each of them in the view, inside by a pixel.
        length_P: of their rays of depth 1.
    """

    cam_R_view: np.ndarray
    K_33: np.ndarray
    size_hw: tuple[int, int]
    pixel_P: np.ndarray
    place_P2: np.ndarray
    length_P: np.ndarray

    @property
    def cam_T_view(self) -> np.ndarray:
        """(4, 4)."""
        transform = np.eye(4)
        transform[:3, :3] = self.cam_R_view
        return transform

    @cached_property
    def nearest_P(self) -> np.ndarray:
        """Flat index of the view's pixel nearest to each of the picture's."""
        column, row = np.round(self.place_P2).astype(np.int64).T
        return row * self.size_hw[1] + column

    @cached_property
    def weight_HW(self) -> np.ndarray:
        """How many pixels of the picture each of the view's is nearest to, int64."""
        count = np.bincount(self.nearest_P, minlength=self.size_hw[0] * self.size_hw[1])
        return count.reshape(self.size_hw)

    def depth_factor(self) -> np.ndarray:
        """What makes the view's depth at `nearest_P` (along its own axis) the lens's depth, `(P,)`."""
        row, column = np.divmod(self.nearest_P, self.size_hw[1])
        (focal, _, cx), (_, _, cy) = self.K_33[:2]
        return np.sqrt(((column - cx) / focal) ** 2 + ((row - cy) / focal) ** 2 + 1) / self.length_P

    def resample(self, picture_HWC: np.ndarray) -> np.ndarray:
        """The view's picture at `place_P2`, bilinear: `(P, C)`."""
        first = np.floor(self.place_P2).astype(np.int64)
        across, down = (self.place_P2 - first).astype(picture_HWC.dtype).T[:, :, None]
        flat, width = picture_HWC.reshape(-1, picture_HWC.shape[2]), self.size_hw[1]
        at = first[:, 1] * width + first[:, 0]

        upper = flat[at] * (1 - across) + flat[at + 1] * across
        lower = flat[at + width] * (1 - across) + flat[at + width + 1] * across
        return upper * (1 - down) + lower * down


def views_of(K_33: np.ndarray, size_hw: tuple[int, int], distortion: Distortion) -> tuple[LensView, ...]:
    """The views of one camera; made once for each calibration and size."""
    return _views(tuple(map(tuple, np.asarray(K_33, np.float64).tolist())), tuple(size_hw), distortion)


@lru_cache(maxsize=24)
def _views(K: tuple, size_hw: tuple[int, int], distortion: Distortion) -> tuple[LensView, ...]:
    rays = image_rays(np.array(K), size_hw, distortion)  # (H, W, 3), NaN where there is none
    seen = np.isfinite(rays).all(-1)
    ahead = np.abs(rays[..., :2]).max(-1) <= NARROW * rays[..., 2]

    # of each pixel the face that its ray goes through
    face = np.zeros(size_hw, np.int64)
    if not ahead[seen].all():
        along = np.einsum('hwc,fcv->fhwv', np.where(seen[..., None], rays, 0.0), _FACES)[..., 2]
        face = along.argmax(0)
    face = np.where(seen, face, -1)

    places = {}
    for number in np.unique(face[seen]):
        turned = rays @ _FACES[number]
        places[number] = turned[..., :2] / np.where(face == number, turned[..., 2], np.nan)[..., None]
    focal = max((_focal(place) for place in places.values()), default=1.0)
    return tuple(_view(number, place, focal, rays) for number, place in places.items())


def _focal(place_HW2: np.ndarray) -> float:
    """Pixels of a view to one unit of its plane z = 1: as fine as the picture's finest neighbours."""
    steps = [np.linalg.norm(np.diff(place_HW2, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    steps = np.concatenate(steps)
    steps = steps[np.isfinite(steps)]
    finest = np.percentile(steps, _FINEST_SHARE) if len(steps) else 1.0

    extent = np.nanmax(place_HW2, (0, 1)) - np.nanmin(place_HW2, (0, 1))
    return float(min(1 / max(finest, 1e-9), (LARGEST_PX - 4) / max(extent.max(), 1e-9)))


def _view(number: int, place_HW2: np.ndarray, focal: float, rays: np.ndarray) -> LensView:
    """One face, no more of it than its pixels look at."""
    pixel = np.flatnonzero(np.isfinite(place_HW2[..., 0]))
    place = place_HW2.reshape(-1, 2)[pixel]
    low, high = place.min(0), place.max(0)
    width, height = (np.ceil((high - low) * focal).astype(int) + 4).tolist()

    cx, cy = 1 - low * focal
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    length = np.linalg.norm(rays.reshape(-1, 3)[pixel], axis=1)
    return LensView(_FACES[number], K, (height, width), pixel, place * focal + [cx, cy], length)
