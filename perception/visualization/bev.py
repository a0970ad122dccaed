"""The view from above: the car looks up the picture (+x up), its left is the picture's left (+y left)."""
from __future__ import annotations

import numpy as np

from ..core.grid import BEVGrid
from . import palette


class BevCanvas:
    """A picture of the ground around the car.

    Args:
        x_range_m: (back, front).
        y_range_m: (right, left).
        px_per_m: scale.
    """

    def __init__(
        self,
        x_range_m: tuple[float, float] = (-50, 50),
        y_range_m: tuple[float, float] = (-50, 50),
        px_per_m: float = 6.0,
    ) -> None:
        self.grid = BEVGrid(x_range_m, y_range_m, 1.0)
        self.px_per_m = px_per_m

        height, width = round(self.grid.x_size * px_per_m), round(self.grid.y_size * px_per_m)
        self.image = np.full((height, width, 3), palette.BACKGROUND, dtype=np.uint8)

    def pixels(self, xy_m: np.ndarray) -> np.ndarray:
        """Ego metres `(*, 2)` -> picture (column, row), float: forward is up, left is left."""
        column = (self.grid.y_range_m[1] - xy_m[..., 1]) * self.px_per_m
        row = (self.grid.x_range_m[1] - xy_m[..., 0]) * self.px_per_m
        return np.stack([column, row], -1)

    def draw_cells(self, mask_YX: np.ndarray, grid: BEVGrid, colour: tuple[int, int, int]) -> None:
        """Paint the cells of `grid` where the bool mask `(Y, X)` is true."""
        rows, columns = np.mgrid[:self.image.shape[0], :self.image.shape[1]] + 0.5
        x_m = self.grid.x_range_m[1] - rows / self.px_per_m
        y_m = self.grid.y_range_m[1] - columns / self.px_per_m
        xy_m = np.stack([x_m, y_m], -1)

        # which cell lies under the middle of each pixel
        cells = np.floor(grid.to_cells(xy_m)).astype(int)
        inside = grid.contains(xy_m)
        painted = np.zeros(inside.shape, dtype=bool)
        painted[inside] = mask_YX[cells[inside][:, 1], cells[inside][:, 0]] > 0
        self.image[painted] = colour

    def draw_points(
        self, points: np.ndarray, colours: np.ndarray | tuple[int, int, int] = (150, 150, 150)
    ) -> None:
        """Points `(P, 2+)` in ego metres as single pixels, in one colour or `(P, 3)` colours."""
        pixels = np.floor(self.pixels(points[:, :2].astype(np.float64))).astype(int)
        height, width = self.image.shape[:2]
        visible = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)

        chosen = colours[visible] if isinstance(colours, np.ndarray) else colours
        self.image[pixels[visible, 1], pixels[visible, 0]] = chosen

    def draw_line(
        self,
        points_P2: np.ndarray,
        colour: tuple[int, int, int],
        thickness_px: int = 2,
        closed: bool = False,
    ) -> None:
        """A polyline in ego metres."""
        import cv2

        cv2.polylines(
            self.image, [self._integers(points_P2[:, :2])], closed, colour, thickness_px, cv2.LINE_AA
        )

    def draw_dot(self, xy_m: np.ndarray, colour: tuple[int, int, int], radius_px: int = 3) -> None:
        """A filled circle at one place in ego metres."""
        import cv2

        centre = tuple(self._integers(xy_m[:2]).tolist())
        cv2.circle(self.image, centre, radius_px, colour, -1, cv2.LINE_AA)

    def draw_text(self, text: str, xy_m: np.ndarray, colour: tuple[int, int, int]) -> None:
        """A short word at the upper right of a place in ego metres."""
        import cv2

        column, row = self._integers(xy_m[:2]).tolist()
        put = (self.image, text, (column + 4, row - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38)
        cv2.putText(*put, palette.BACKGROUND, 3, cv2.LINE_AA)
        cv2.putText(*put, colour, 1, cv2.LINE_AA)

    def draw_arrow(self, start_m: np.ndarray, end_m: np.ndarray, colour: tuple[int, int, int]) -> None:
        """A thin arrow between two places in ego metres."""
        import cv2

        start, end = self._integers(np.stack([start_m, end_m])).tolist()
        cv2.arrowedLine(self.image, tuple(start), tuple(end), colour, 1, cv2.LINE_AA, tipLength=0.25)

    def draw_ego(self, length_m: float = 4.1, width_m: float = 1.75, rear_overhang_m: float = 0.9) -> None:
        """The car itself: a filled shape with a pointed front, origin at the rear axle."""
        import cv2

        front_m, half_m = length_m - rear_overhang_m, width_m / 2
        outline = np.array([
            [-rear_overhang_m, half_m], [front_m - 1, half_m], [front_m, 0], [front_m - 1, -half_m],
            [-rear_overhang_m, -half_m]])
        cv2.fillPoly(self.image, [self._integers(outline)], palette.EGO, cv2.LINE_AA)

    def draw_scale(self, metres: int = 10) -> None:
        """A scale bar at the bottom left."""
        import cv2

        row, end = self.image.shape[0] - 12, 12 + round(metres * self.px_per_m)
        cv2.line(self.image, (12, row), (end, row), palette.INK, 2)
        cv2.putText(
            self.image, f'{metres} m', (14, row - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, palette.INK, 1,
            cv2.LINE_AA)

    def _integers(self, xy_m: np.ndarray) -> np.ndarray:
        # OpenCV overflows where a shape reaches far outside the picture
        pixels = self.pixels(np.asarray(xy_m, dtype=np.float64))
        return np.round(pixels).clip(-30000, 30000).astype(np.int32)
