"""The view from above: the car looks up the picture (+x up), its left is the picture's left (+y left)."""
from __future__ import annotations

import numpy as np

from ..core.geometry import box_corners
from ..core.grid import BEVGrid
from ..core.protocols import DETECTION_CLASSES, LANE_CLASSES, MAP_CLASSES
from . import palette


class BevCanvas:
    """A picture of the ground around the car.

    Args:
        x_range_m: (back, front).
        y_range_m: (right, left).
        px_per_m: scale.
    """

    def __init__(self, x_range_m: tuple[float, float] = (-50, 50), y_range_m: tuple[float, float] = (-50, 50),
                 px_per_m: float = 6.0) -> None:
        self.grid = BEVGrid(x_range_m, y_range_m, 1.0)
        self.px_per_m = px_per_m
        height, width = round(self.grid.x_size * px_per_m), round(self.grid.y_size * px_per_m)
        self.image = np.full((height, width, 3), palette.BACKGROUND, dtype=np.uint8)

    def pixels(self, xy_m: np.ndarray) -> np.ndarray:
        """Ego metres `(*, 2)` -> picture (column, row), float: forward is up, left is left."""
        column = (self.grid.y_range_m[1] - xy_m[..., 1]) * self.px_per_m
        row = (self.grid.x_range_m[1] - xy_m[..., 0]) * self.px_per_m
        return np.stack([column, row], -1)

    def _ints(self, xy_m: np.ndarray) -> np.ndarray:
        return np.round(self.pixels(np.asarray(xy_m, dtype=np.float64))).clip(-30000, 30000).astype(np.int32)

    def draw_map(self, masks_6YX: np.ndarray, grid: BEVGrid) -> None:
        """Paint map classes, bool `(6, Y, X)` on `grid`; later classes lie on top of earlier ones."""
        rows, columns = np.mgrid[:self.image.shape[0], :self.image.shape[1]] + 0.5
        xy_m = np.stack(
            [self.grid.x_range_m[1] - rows / self.px_per_m, self.grid.y_range_m[1] - columns / self.px_per_m],
            -1)
        cells = np.floor(grid.to_cells(xy_m)).astype(int)
        inside = grid.contains(xy_m)
        for name, mask in zip(MAP_CLASSES, masks_6YX, strict=True):
            hit = np.zeros(inside.shape, dtype=bool)
            hit[inside] = mask[cells[inside][:, 1], cells[inside][:, 0]] > 0
            self.image[hit] = palette.MAP[name]

    def draw_points(
        self, points: np.ndarray, colours: np.ndarray | tuple[int, int, int] = (150, 150, 150)
    ) -> None:
        """Points `(P, 2+)` in ego metres as single pixels."""
        pixels = np.floor(self.pixels(points[:, :2].astype(np.float64))).astype(int)
        seen = (
            (pixels >= 0).all(1) & (pixels[:, 0] < self.image.shape[1]) & (pixels[:, 1] < self.image.shape[0])
        )
        self.image[pixels[seen, 1], pixels[seen, 0]] = (
            colours[seen] if isinstance(colours, np.ndarray) else colours
        )

    def draw_line(
        self, points_P2: np.ndarray, colour: tuple[int, int, int], thickness_px: int = 2, closed: bool = False
    ) -> None:
        """A polyline in ego metres."""
        import cv2
        cv2.polylines(self.image, [self._ints(points_P2[:, :2])], closed, colour, thickness_px, cv2.LINE_AA)

    def draw_lanes(self, lanes: list[tuple[np.ndarray, int]]) -> None:
        """Lane elements: (points `(P, 2)` ego metres, class) pairs, with a dot at the first point."""
        import cv2
        for points, label in lanes:
            colour = palette.LANES[LANE_CLASSES[int(label)]]
            self.draw_line(points, colour)
            cv2.circle(self.image, tuple(self._ints(points[:1])[0].tolist()), 3, colour, -1, cv2.LINE_AA)

    def draw_boxes(self, boxes_M9: np.ndarray, labels_M: np.ndarray, velocity_s: float = 1.0) -> None:
        """Footprints with a line to the front, and an arrow to where the thing is in `velocity_s` seconds."""
        import cv2

        corners = (
            box_corners(boxes_M9.astype(np.float64))[:, :4, :2] if len(boxes_M9) else np.zeros((0, 4, 2))
        )
        for box, label, corner in zip(boxes_M9, labels_M, corners, strict=True):
            colour = palette.DETECTION[DETECTION_CLASSES[int(label)]]
            self.draw_line(corner, colour, 2, closed=True)
            self.draw_line(np.stack([box[:2], corner[:2].mean(0)]), colour, 2)
            if np.isfinite(box[7:9]).all() and np.hypot(*box[7:9]) > 0.5:
                start, end = self._ints(np.stack([box[:2], box[:2] + velocity_s * box[7:9]]))
                cv2.arrowedLine(self.image, tuple(start.tolist()), tuple(end.tolist()), palette.INK, 1,
                                cv2.LINE_AA, tipLength=0.25)

    def draw_ego(self, length_m: float = 4.1, width_m: float = 1.75, rear_overhang_m: float = 0.9) -> None:
        """The car itself: a filled triangle-nosed shape, origin at the rear axle."""
        import cv2
        front, half = length_m - rear_overhang_m, width_m / 2
        outline = np.array([[-rear_overhang_m, half], [front - 1, half],
                            [front, 0], [front - 1, -half], [-rear_overhang_m, -half]])
        cv2.fillPoly(self.image, [self._ints(outline)], palette.EGO, cv2.LINE_AA)

    def draw_scale(self, metres: int = 10) -> None:
        """A scale bar at the bottom left."""
        import cv2
        row, end = self.image.shape[0] - 12, 12 + round(metres * self.px_per_m)
        cv2.line(self.image, (12, row), (end, row), palette.INK, 2)
        cv2.putText(
            self.image, f'{metres} m', (14, row - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, palette.INK, 1,
            cv2.LINE_AA)
