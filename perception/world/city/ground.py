"""The ground of a city as a raster of materials: streets, paint, walkways, kerbs, car parks, terrain."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..scene.curves import Curve
from ..scene.ground_raster import GroundRaster
from ..scene.materials import MATERIAL_ID
from .layers import BAY_DEPTH_M, BAY_WIDTH_M, quad
from .records import Road, RoadNetwork, StreetMap
from .styles import CityStyle

GROUND_M_PER_CELL = 0.1
DASH_M, DASH_GAP_M, LINE_WIDTH_M = 3.0, 4.5, 0.15
SOLID_BEFORE_STOP_M = 15.0
_SHIFT = 6


class _Brush:
    """Fills polygons given in metres into a raster (row = +y) with sub-cell corners."""

    def __init__(self, canvas_edge: tuple[float, float], material: str) -> None:
        columns, rows = (int(round(edge / GROUND_M_PER_CELL)) for edge in canvas_edge)
        self.material_YX = np.full((rows, columns), MATERIAL_ID[material], np.uint8)

    def fill(self, rings: Iterable[np.ndarray], material: str) -> None:
        """Even-odd fill of one or several rings (K, 2)."""
        import cv2

        # OpenCV wants whole numbers of 1/64 cell, counted from the centre of the first cell
        scale = (1 << _SHIFT) / GROUND_M_PER_CELL
        points = [np.round((np.asarray(ring) - 0.5 * GROUND_M_PER_CELL) * scale).astype(np.int32)
                  for ring in rings]
        cv2.fillPoly(self.material_YX, points, MATERIAL_ID[material], cv2.LINE_8, _SHIFT)

    def polygon(self, polygon, material: str) -> None:
        """A shapely polygon with its holes."""
        rings = [polygon.exterior, *polygon.interiors]
        self.fill([np.array(ring.coords) for ring in rings], material)


def _line(brush: _Brush, curve: Curve, width_m: float, material: str) -> None:
    if curve.length_m > 0.3:
        brush.fill([curve.strip(-0.5 * width_m, 0.5 * width_m)], material)


def _dashes(brush: _Brush, curve: Curve, material: str) -> None:
    for start in np.arange(1.0, curve.length_m - DASH_M, DASH_M + DASH_GAP_M):
        _line(brush, curve.piece(start, start + DASH_M), LINE_WIDTH_M, material)


def _paint_road(brush: _Brush, road: Road, drives_right: bool, divider: str) -> None:
    """The lines of one street: in the middle, between lanes, at the edges of parking strips."""
    middle = road.curve.piece(*road.span_m)
    half = 0.5 * road.median_m
    if road.median_m > 0:
        brush.fill([middle.strip(-half, half)], 'kerb')
        brush.fill([middle.strip(0.25 - half, half - 0.25)], 'island')
    for edge in (-half - 0.14, half + 0.14):
        _line(brush, middle.offset(edge), LINE_WIDTH_M, divider)

    # lane lines are dashed, and solid on the last metres before the stop line
    for direction in (1, -1):
        side = -direction if drives_right else direction
        for position in range(1, road.lanes_per_direction):
            line = middle.offset(side * (half + position * road.lane_width_m))
            line = line if direction == 1 else line.reversed()
            solid = max(line.length_m - SOLID_BEFORE_STOP_M, 1.0)
            _dashes(brush, line.piece(0.0, solid), 'paint_white')
            _line(brush, line.piece(solid, line.length_m), LINE_WIDTH_M, 'paint_white')

    for left in (False, True):
        edge = road.carriageway_m - (0.0 if road.parking[left] else 0.3)
        _line(brush, middle.offset(edge if left else -edge), 0.12, 'paint_white')


def _paint_crossing(brush: _Brush, corners_42: np.ndarray) -> None:
    """Zebra bars that run along the street, half a metre wide and half a metre apart."""
    along, across = corners_42[1] - corners_42[0], corners_42[3] - corners_42[0]
    length = float(np.linalg.norm(across))
    for start in np.arange(0.4, length - 0.6, 1.1):
        low, high = corners_42[0], corners_42[0] + along
        near, far = across * (start / length), across * ((start + 0.55) / length)
        bar = np.array([low + near, high + near, high + far, low + far])
        brush.fill([bar], 'crossing_paint')


def _paint_bays(brush: _Brush, bays_B3: np.ndarray) -> None:
    half_depth, half_width = 0.5 * BAY_DEPTH_M, 0.5 * BAY_WIDTH_M
    for x, y, yaw in bays_B3:
        for side in (-half_width, half_width):
            line = quad(np.array([x, y]), yaw, (-half_depth, half_depth), (side - 0.06, side + 0.06))
            brush.fill([line], 'paint_white')


def paint_ground(network: RoadNetwork, city_map: StreetMap, style: CityStyle,
                 canvas_edge: tuple[float, float]) -> GroundRaster:
    """The whole city's ground at 0.1 m; the map layers and the raster come from the same polygons."""
    brush = _Brush(canvas_edge, style.terrain)
    for walkway in city_map.walkways:
        brush.polygon(walkway, style.sidewalk)

    # the street over its own slightly wider outline: what shows of that is the kerb
    for area in city_map.drivable:
        outline = area.buffer(0.25, quad_segs=2)
        for part in getattr(outline, 'geoms', [outline]):
            brush.polygon(part, 'kerb')
        brush.polygon(area, style.asphalt)

    for park in city_map.car_parks:
        brush.polygon(park.polygon, 'carpark')
        _paint_bays(brush, park.bays_B3)

    for road in network.roads:
        _paint_road(brush, road, network.drives_right, style.divider)
    for crossing in city_map.crossings:
        _paint_crossing(brush, np.array(crossing.polygon.exterior.coords)[:4])
    for line in city_map.stop_lines:
        brush.polygon(line.paint, 'paint_white')

    return GroundRaster(brush.material_YX, np.zeros(2), GROUND_M_PER_CELL, MATERIAL_ID[style.terrain])


def crop_ground(ground: GroundRaster, low_xy_m: np.ndarray, high_xy_m: np.ndarray) -> GroundRaster:
    """The part of `ground` between two corners (rounded outwards to cells, cut at the raster's border)."""
    rows, columns = ground.material_YX.shape
    low = np.floor((low_xy_m - ground.origin_xy_m) / ground.m_per_cell).astype(int)
    high = np.ceil((high_xy_m - ground.origin_xy_m) / ground.m_per_cell).astype(int)
    left, bottom = np.clip(low, 0, None)
    right, top = np.minimum(high, [columns, rows])

    material_YX = ground.material_YX[bottom:top, left:right].copy()
    origin_xy_m = ground.origin_xy_m + np.array([left, bottom]) * ground.m_per_cell
    return GroundRaster(material_YX, origin_xy_m, ground.m_per_cell, ground.outside)
