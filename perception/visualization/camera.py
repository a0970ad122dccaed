"""One camera's image as a canvas for shapes in ego metres."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.contracts import CameraRig
from ..core.geometry import invert, transform_points
from ..core.lens.projection import lens_project
from . import palette

_NEAR_M = 0.5
_PIECE_RAD = np.radians(3)


class CameraCanvas:
    """A copy of one camera's image that 3-D shapes are drawn into.

    Args:
        rig: the cameras of a sample; its images are not changed.
        index: which of them.
    """

    def __init__(self, rig: CameraRig, index: int) -> None:
        self.image = rig.images_NHW3[index].copy()
        self.K = rig.K_N33[index]
        self.distortion = rig.distortion_of(index)
        self.cam_T_ego = invert(rig.ego_T_cam_N44[index])
        self._line_scale = max(1, round(self.image.shape[1] / 500))

    def to_camera(self, points_ego: np.ndarray) -> np.ndarray:
        """Ego metres `(P, 3)` -> camera frame (x right, y down, z forward), float64."""
        return transform_points(self.cam_T_ego, np.asarray(points_ego, dtype=np.float64))

    def draw_points(self, points_ego: np.ndarray) -> None:
        """Points `(P, 3+)` in ego metres as single pixels, coloured by depth, nearest on top."""
        pixels, depth_m = lens_project(self.K, self.to_camera(points_ego[:, :3]), self.distortion)
        columns, rows = np.round(np.nan_to_num(pixels, nan=-1e6)).clip(-1e6, 1e6).astype(int).T

        height, width = self.image.shape[:2]
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        visible = inside & (depth_m > _NEAR_M)
        order = np.argsort(-depth_m[visible])
        colours = palette.heat(depth_m[visible][order], 2, 50)
        self.image[rows[visible][order], columns[visible][order]] = colours

    def draw_polyline(
        self, points_ego: np.ndarray, colour: tuple[int, int, int], thickness_px: int = 1
    ) -> None:
        """A line through points `(P, 3)` in ego metres."""
        points_cam = self.to_camera(points_ego)
        for a_cam, b_cam in zip(points_cam[:-1], points_cam[1:], strict=True):
            self.draw_segment(a_cam, b_cam, colour, thickness_px)

    def draw_segment(
        self,
        a_cam: np.ndarray,
        b_cam: np.ndarray,
        colour: tuple[int, int, int],
        thickness_px: int = 1,
    ) -> None:
        """A segment between two points of the camera frame, in metres, cut at the near plane.

        `thickness_px` is that of a small image; lines are thicker in a wide one.
        """
        import cv2

        if self.distortion is None or not self.distortion.by_distance:
            ends = _before_plane(a_cam, b_cam)
            if ends is None:
                return
            a_cam, b_cam = ends

        bends = self.distortion is not None and not self.distortion.is_pinhole
        points = _pieces(a_cam, b_cam) if bends else np.stack([a_cam, b_cam])
        pixels, depth_m = lens_project(self.K, points, self.distortion)

        # OpenCV overflows on ends that lie far outside the image
        drawn = (depth_m > 0) & (np.abs(pixels).max(1) < 20 * max(self.image.shape[:2]))
        width_px = thickness_px * self._line_scale
        for i in np.flatnonzero(drawn[:-1] & drawn[1:]):
            start, end = np.round(pixels[i:i + 2]).astype(int).tolist()
            cv2.line(self.image, tuple(start), tuple(end), colour, width_px, cv2.LINE_AA)

    def draw_text(self, text: str, point_ego: np.ndarray, colour: tuple[int, int, int]) -> None:
        """A short word above a point `(3,)` in ego metres, on white; none behind the camera."""
        import cv2

        point_cam = self.to_camera(np.asarray(point_ego)[None])
        pixels, depth_m = lens_project(self.K, point_cam, self.distortion)
        height, width = self.image.shape[:2]
        if depth_m[0] <= _NEAR_M or not (0 <= pixels[0, 0] < width and 0 <= pixels[0, 1] < height):
            return

        column, row = np.round(pixels[0]).astype(int).tolist()
        put = (self.image, text, (column - 4, row - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4 * self._line_scale)
        cv2.putText(*put, (255, 255, 255), 3 * self._line_scale, cv2.LINE_AA)
        cv2.putText(*put, colour, self._line_scale, cv2.LINE_AA)

    def draw_absent(self) -> None:
        """Replace the image by a grey one that says so."""
        import cv2

        self.image[:] = 90
        cv2.putText(
            self.image, 'no image', (8, self.image.shape[0] // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
            (200, 200, 200), 1, cv2.LINE_AA)


def _before_plane(a_cam: np.ndarray, b_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of a segment that lies before the near plane; None where there is none."""
    if a_cam[2] < b_cam[2]:
        a_cam, b_cam = b_cam, a_cam
    if a_cam[2] <= _NEAR_M:
        return None
    if b_cam[2] < _NEAR_M:
        b_cam = a_cam + (b_cam - a_cam) * ((a_cam[2] - _NEAR_M) / (a_cam[2] - b_cam[2]))
    return a_cam, b_cam


def _pieces(a_cam: np.ndarray, b_cam: np.ndarray) -> np.ndarray:
    """Points `(P, 3)` along a segment, at equal steps of its direction: through a lens it is a curve."""
    a, b = np.linalg.norm(a_cam), np.linalg.norm(b_cam)
    cosine = np.clip(a_cam @ b_cam / max(a * b, 1e-9), -1, 1)
    angle = np.arccos(cosine)
    steps = np.linspace(0, angle, 1 + max(1, int(np.ceil(angle / _PIECE_RAD))))

    # the sine rule in the triangle of the camera and the two ends
    near, far = a * np.sin(steps), b * np.sin(angle - steps)
    share = near / np.maximum(near + far, 1e-12)
    share[-1] = 1.0
    return a_cam + share[:, None] * (b_cam - a_cam)


def resize_rig(rig: CameraRig, width_px: int) -> CameraRig:
    """The rig with its images resized to `width_px` and its intrinsics changed with them.

    Lines drawn into a small image after enlarging it are sharper.
    """
    import cv2

    height, width = rig.image_size_hw
    scale = width_px / width
    size = (width_px, round(height * scale))
    resized = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in rig.images_NHW3])

    # pixel centres lie at integers, so the corner of the image at -0.5 is what stays in place
    row_scale = size[1] / height
    pixel_change = np.array([
        [scale, 0, (scale - 1) / 2], [0, row_scale, (row_scale - 1) / 2], [0, 0, 1]])
    return replace(rig, images_NHW3=resized, K_N33=pixel_change @ rig.K_N33, sizes_N2=None)
