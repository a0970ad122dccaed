"""Polygons and polylines in metres -> masks on a `BEVGrid`; the ground of vehicles as polygons.

The pixel rule is the nuScenes map API's (nuscenes-devkit `map_api.py`: `mask_for_polygons`,
`mask_for_lines`): shapes are cut at the grid's border, vertices scaled to pixels and, for polygons, rounded,
for lines, truncated; exteriors are filled with 1, then holes with 0, one polygon after the other; lines are
drawn 2 pixels thick. It is the rule of the BEVFusion map-segmentation protocol, so targets and truth both use
it.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .contracts import BoxLabels, MapLayers, Polygon
from .geometry import box_corners
from .grid import BEVGrid

Rings = tuple[np.ndarray, Sequence[np.ndarray]]

_BOTTOM = (0, 1, 2, 3)


def _cells(xy_P2: np.ndarray, grid: BEVGrid) -> np.ndarray:
    return grid.to_cells(np.asarray(xy_P2, dtype=np.float64)[:, :2])


def _rounded(xy_P2: np.ndarray, grid: BEVGrid) -> np.ndarray:
    return np.round(_cells(xy_P2, grid)).astype(np.int32)


def _where(xy_P2: np.ndarray, grid: BEVGrid) -> str:
    """'inside', 'outside' or 'crossing': how the bounds of points lie to the grid."""
    low, high = xy_P2[:, :2].min(0), xy_P2[:, :2].max(0)
    (x0, x1), (y0, y1) = grid.x_range_m, grid.y_range_m
    if low[0] >= x0 and high[0] <= x1 and low[1] >= y0 and high[1] <= y1:
        return 'inside'
    return 'outside' if low[0] > x1 or high[0] < x0 or low[1] > y1 or high[1] < y0 else 'crossing'


def _cut_polygon(exterior: np.ndarray, holes: Sequence[np.ndarray], grid: BEVGrid) -> list[Rings]:
    """The parts of a polygon on the grid.

    Where shapely is absent, or the rings cross themselves, the polygon uncut: cells along edges that leave
    the grid may then differ by one.
    """
    where = _where(exterior, grid)
    if where != 'crossing':
        return [(exterior, holes)] if where == 'inside' else []
    try:
        from shapely import GEOSException, Polygon, box
    except ImportError:
        return [(exterior, holes)]

    (x0, x1), (y0, y1) = grid.x_range_m, grid.y_range_m
    try:
        polygon = Polygon(exterior[:, :2], [hole[:, :2] for hole in holes if len(hole) >= 3])
        cut = polygon.intersection(box(x0, y0, x1, y1))
    except (GEOSException, ValueError):
        return [(exterior, holes)]

    # an intersection may also give lines and points, where borders only touch
    parts = [p for p in getattr(cut, 'geoms', [cut]) if p.geom_type == 'Polygon' and not p.is_empty]
    return [
        (np.array(part.exterior.coords), [np.array(ring.coords) for ring in part.interiors])
        for part in parts]


def fill_polygons(polygons: Sequence[Rings], grid: BEVGrid) -> np.ndarray:
    """Fill polygons, each (exterior `(P, 2)`, holes), all metres, into a uint8 mask `(Y, X)` of 0 and 1.

    A polygon's holes also clear what earlier polygons filled, as in the nuScenes map API.
    """
    import cv2

    mask = np.zeros(grid.shape_YX, dtype=np.uint8)
    for exterior, holes in polygons:
        if len(exterior) < 3:
            continue
        parts = _cut_polygon(exterior, holes, grid)
        cv2.fillPoly(mask, [_rounded(outer, grid) for outer, _ in parts], 1)
        inner = [_rounded(ring, grid) for _, rings in parts for ring in rings]
        if inner:
            cv2.fillPoly(mask, inner, 0)
    return mask


def draw_lines(lines: Sequence[np.ndarray], grid: BEVGrid, thickness_px: int = 2) -> np.ndarray:
    """Draw polylines, each `(P, 2+)` metres, into a uint8 mask `(Y, X)` of 0 and 1."""
    import cv2

    mask = np.zeros(grid.shape_YX, dtype=np.uint8)
    for line in lines:
        where = _where(line, grid) if len(line) >= 2 else 'outside'
        if where == 'crossing':
            pieces = clip_polyline(line[:, :2], grid.x_range_m, grid.y_range_m)
        else:
            pieces = [line] if where == 'inside' else []
        for piece in pieces:
            cv2.polylines(mask, [_cells(piece, grid).astype(np.int32)], False, 1, thickness_px)
    return mask


def resample_polyline(points_PD: np.ndarray, count: int) -> np.ndarray:
    """`count` points evenly spaced by arc length along a polyline `(P, D)`, ends included: `(count, D)`."""
    points_PD = np.asarray(points_PD, dtype=np.float64)
    steps = np.linalg.norm(np.diff(points_PD, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(places, along, points_PD[:, d]) for d in range(points_PD.shape[1])], 1)


def clip_polyline(
    points_P2: np.ndarray, x_range_m: tuple[float, float], y_range_m: tuple[float, float]
) -> list[np.ndarray]:
    """The pieces of a polyline `(P, 2)` inside an axis-aligned rectangle.

    In order, each `(Q, 2)` with Q >= 2.
    """
    low = np.array([x_range_m[0], y_range_m[0]])
    high = np.array([x_range_m[1], y_range_m[1]])
    points = np.asarray(points_P2, dtype=np.float64)
    flat = points[:, :2]
    inside = ((flat >= low) & (flat <= high)).all(1)
    touching = ((np.minimum(flat[:-1], flat[1:]) <= high) & (np.maximum(flat[:-1], flat[1:]) >= low)).all(1)

    # segment by segment; a piece goes on while the next segment starts where the last one ended
    pieces: list[list[np.ndarray]] = []
    current: list[np.ndarray] = []
    last = -1
    for i in np.flatnonzero(touching):
        both = inside[i] and inside[i + 1]
        part = (points[i], points[i + 1]) if both else _clip_segment(points[i], points[i + 1], low, high)
        if part is None or i != last + 1:
            current = []
        last = i
        if part is None:
            continue

        if not current or np.abs(current[-1] - part[0]).max() > 1e-9:
            current = [part[0]]
            pieces.append(current)
        current.append(part[1])
    return [np.array(piece) for piece in pieces if len(piece) > 2 or not np.allclose(piece[0], piece[-1])]


def clip_ring(
    points_P2: np.ndarray, x_range_m: tuple[float, float], y_range_m: tuple[float, float]
) -> list[np.ndarray]:
    """The closed rings around what of a ring's area `(P, 2)` lies inside an axis-aligned rectangle."""
    from shapely import Polygon, box, get_parts, make_valid

    (x0, x1), (y0, y1) = x_range_m, y_range_m
    inside = make_valid(Polygon(np.asarray(points_P2)[:, :2])).intersection(box(x0, y0, x1, y1))
    parts = [part for part in get_parts(get_parts(inside)) if part.geom_type == 'Polygon']
    return [np.array(part.exterior.coords) for part in parts if not part.is_empty]


def _clip_segment(
    a: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of segment a-b inside the rectangle (Liang-Barsky), or None."""
    t0, t1 = 0.0, 1.0
    d = b - a
    for axis in range(2):
        if abs(d[axis]) < 1e-12:
            if not low[axis] <= a[axis] <= high[axis]:
                return None
            continue
        near, far = sorted(((low[axis] - a[axis]) / d[axis], (high[axis] - a[axis]) / d[axis]))
        t0, t1 = max(t0, near), min(t1, far)
    return (a + t0 * d, a + t1 * d) if t0 < t1 else None


def with_vehicles(layers: MapLayers, boxes: BoxLabels) -> MapLayers:
    """The map with a class 'vehicle': the footprints of all annotated vehicles, seen or not, in ego metres.

    As Philion & Fidler 2020 (arXiv 2008.05711) draw theirs.
    """
    is_vehicle_M = boxes.classes.is_vehicle[boxes.labels_M]
    geometry_V7 = np.asarray(boxes.boxes_M9)[is_vehicle_M, :7].astype(np.float64)

    corners_V42 = box_corners(geometry_V7[np.isfinite(geometry_V7).all(1)])[:, _BOTTOM, :2]
    footprints: tuple[Polygon, ...] = tuple((corners_42, ()) for corners_42 in corners_V42)
    return MapLayers({**layers.polygons, 'vehicle': footprints}, layers.lines, layers.radius_m)
