"""A small map expansion in the devkit's JSON format, made by hand: a street with a junction, holes, invalid
shapes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

ORIGIN = np.array([600.0, 1600.0])
SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


class Expansion:
    """Collects shapes; `write` puts the JSON where the devkit looks for it."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {
            name: []
            for name in (
                'polygon', 'line', 'node', 'drivable_area', 'road_segment', 'road_block', 'lane',
                'ped_crossing', 'walkway', 'stop_line', 'carpark_area', 'road_divider', 'lane_divider',
                'traffic_light', 'lane_connector')
        }
        self.json |= {
            'version': '1.3', 'canvas_edge': [2979.5, 2118.1], 'arcline_path_3': {}, 'connectivity': {}}

    def _token(self, layer: str) -> str:
        return f'{layer}_{len(self.json[layer])}'

    def _nodes(self, points: np.ndarray) -> list[str]:
        tokens = []
        for x, y in np.asarray(points, dtype=float) + ORIGIN:
            tokens.append(self._token('node'))
            self.json['node'].append({'token': tokens[-1], 'x': float(x), 'y': float(y)})
        return tokens

    def _shape(self, exterior: np.ndarray, holes: tuple[np.ndarray, ...]) -> str:
        token = self._token('polygon')
        self.json['polygon'].append({'token': token, 'exterior_node_tokens': self._nodes(exterior),
                                     'holes': [{'node_tokens': self._nodes(hole)} for hole in holes]})
        return token

    def polygon(self, layer: str, exterior: np.ndarray, *holes: np.ndarray) -> str:
        """Add a polygon relative to ORIGIN."""
        token, shape = self._token(layer), self._shape(exterior, holes)
        record = {'token': token, 'polygon_token': shape}
        if layer == 'drivable_area':
            record = {'token': token, 'polygon_tokens': [shape]}
        if layer == 'stop_line':
            record |= {
                'stop_line_type': 'YIELD', 'ped_crossing_tokens': [], 'traffic_light_tokens': [],
                'road_block_token': ''}
        if layer == 'lane':
            record |= {'left_lane_divider_segments': [], 'right_lane_divider_segments': []}
        self.json[layer].append(record)
        return token

    def line(self, layer: str, points: np.ndarray) -> None:
        """Add a line relative to ORIGIN."""
        token = self._token('line')
        self.json['line'].append({'token': token, 'node_tokens': self._nodes(points)})
        self.json[layer].append({'token': self._token(layer), 'line_token': token})

    def path(
        self,
        token: str,
        start: tuple[float, float, float],
        shape: str,
        radius: float,
        lengths: list[float],
        incoming: tuple[str, ...] = (),
        outgoing: tuple[str, ...] = (),
    ) -> None:
        """Give a lane its middle and its neighbours."""
        pose = [start[0] + ORIGIN[0], start[1] + ORIGIN[1], start[2]]
        self.json['arcline_path_3'][token] = [
            {
                'start_pose': pose, 'end_pose': pose, 'shape': shape, 'radius': radius,
                'segment_length': lengths}
        ]
        self.json['connectivity'][token] = {'incoming': list(incoming), 'outgoing': list(outgoing)}

    def write(self, root: Path, location: str = 'boston-seaport') -> None:
        """Write `maps/expansion/<location>.json`."""
        folder = root / 'maps' / 'expansion'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{location}.json').write_text(json.dumps(self.json))


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return SQUARE * [x1 - x0, y1 - y0] + [x0, y0]


def street() -> Expansion:
    """A street along x, 14 m wide and 400 m long, a block with a court yard beside it, two lanes that follow
    one another."""
    city = Expansion()
    city.polygon('drivable_area', rectangle(-200, -7, 200, 7))
    city.polygon('drivable_area', rectangle(20, 7, 80, 60), rectangle(35, 20, 60, 45))
    for x in range(-200, 200, 100):
        city.polygon('road_segment', rectangle(x, -7, x + 100, 7))
    city.polygon('walkway', rectangle(-200, -10, 200, -7))
    # crosses itself: the devkit leaves it out
    city.polygon('walkway', np.array([[0.0, 20], [10, 30], [10, 20], [0, 30]]))
    city.polygon('ped_crossing', rectangle(10, -7, 12, 7))
    city.polygon('ped_crossing', rectangle(12, -7, 14, 7))
    city.polygon('ped_crossing', rectangle(-60, -7, -56, 7))
    city.polygon('stop_line', np.array([[8.0, -7], [9, -7], [9.5, 0], [8, 0]]))
    city.polygon('carpark_area', np.array([[-30.0, 12], [-14, 15], [-18, 33], [-33, 28]]))
    city.line('road_divider', np.array([[-200.0, 0], [200, 0]]))
    city.line('lane_divider', np.array([[-40.0, 3.5], [0, 3.8], [45, 3.5]]))
    city.line('lane_divider', np.array([[300.0, 3.5], [390, 3.5]]))
    first, second = (
        city.polygon('lane', rectangle(-50, -7, 0, -3.5)), city.polygon('lane', rectangle(0, -7, 50, -3.5)))
    city.path(first, (-50, -5, 0.0), 'LSR', 10.0, [0.0, 50.0, 0.0], outgoing=(second,))
    city.path(
        second, (0, -5, 0.0), 'RSL', 40.0, [10.0, 30.0, 10.0], incoming=(first,), outgoing=('connector',)
    )
    city.json['lane_connector'].append(
        {'token': 'connector', 'polygon_token': city._shape(rectangle(48, -7, 60, 7), ())}
    )
    city.path('connector', (48, -6, 0.3), 'LRL', 8.0, [4.0, 6.0, 5.0], incoming=(second, 'elsewhere'))
    return city
