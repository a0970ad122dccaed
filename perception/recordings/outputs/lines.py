"""Vector lanes as messages."""
from __future__ import annotations

from typing import Any

import numpy as np

from ...core.contracts import Lanes
from ...core.protocols import LANE_CLASSES
from ...visualization import palette
from .definitions import Message
from .parts import OutputOptions, header, key_values, pose, rgba, time_of, vector

WIDTH_M = 0.2
_LINE_STRIP = {'marker': 4, 'primitive': 0}
_DELETE_ALL = 3


def lane_markers(lanes: Lanes, stamp_ns: int, options: OutputOptions) -> Message:
    """Lanes of at least the threshold's score as `visualization_msgs/MarkerArray`, one strip each.

    `ns` is the class; the first marker deletes those of the frame before.
    """
    above = header(stamp_ns, options.frame_id)
    markers: list[dict[str, Any]] = [{'header': above, 'action': _DELETE_ALL}]
    markers += [
        {
            'header': above, 'ns': name, 'id': i, 'type': _LINE_STRIP['marker'], 'pose': pose(),
            'scale': {'x': WIDTH_M}, 'color': rgba(palette.LANES[name]), 'points': points}
        for i, name, points in _drawn(lanes, options)]
    return Message('visualization_msgs/msg/MarkerArray', {'markers': markers})


def lane_entities(lanes: Lanes, stamp_ns: int, options: OutputOptions) -> list[dict[str, Any]]:
    """The same lanes as `foxglove_msgs/SceneEntity`, a line primitive each."""
    return [
        {
            'timestamp': time_of(stamp_ns), 'frame_id': options.frame_id, 'id': f'lane {i}',
            'metadata': key_values({'class': name, 'score': lanes.scores_L[i]}),
            'lines': [{
                'type': _LINE_STRIP['primitive'], 'pose': pose(), 'thickness': WIDTH_M, 'points': points,
                'color': rgba(palette.LANES[name])}]}
        for i, name, points in _drawn(lanes, options)]


def _drawn(lanes: Lanes, options: OutputOptions) -> list[tuple[int, str, list[dict[str, float]]]]:
    """(row, class, points) of the lanes that are drawn."""
    rows = np.flatnonzero(lanes.scores_L >= options.score_threshold).tolist()
    return [
        (i, LANE_CLASSES[lanes.labels_L[i]], [vector(point) for point in lanes.points_LP2[i]]) for i in rows]
