"""The map's window around the LiDAR, where BEVFusion's public code draws and scores its masks.

Its frame is the LiDAR's, flat: x to the right, y forward on nuScenes' cars. Truth is drawn there by the same
pixel rule, cell for cell; a prediction, whose cells are ego's, is looked up at the centres of the window's.
"""
from __future__ import annotations

import numpy as np

from ...core.contracts import Frame, MapLayers, MapSegmentation
from ...core.geometry import yaw_of
from ...core.protocols import MAP_GRID


def _flat(global_T_sensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and position: `(points - position) @ rotation.T` is seen from there."""
    yaw = float(yaw_of(global_T_sensor))
    rotation = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    return rotation, np.asarray(global_T_sensor)[:2, 3]


def _frames(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rotation and position of ego, then of the LiDAR.

    Raises:
        ValueError: the frame does not say where its LiDAR is.
    """
    if frame.ego_T_lidar is None:
        raise ValueError(
            "map_segmentation: centre 'lidar' needs to know where the LiDAR is, and the frame's ego_T_lidar "
            "is None; expected a LiDAR in its infos, or centre='ego'")
    return *_flat(frame.global_T_ego), *_flat(frame.global_T_ego @ frame.ego_T_lidar)


def around_lidar(layers: MapLayers, frame: Frame) -> MapLayers:
    """Layers in ego metres -> the same in the LiDAR's flat frame."""
    ego_rotation, ego_position, rotation, position = _frames(frame)

    def moved(points_P2: np.ndarray) -> np.ndarray:
        return (points_P2 @ ego_rotation + ego_position - position) @ rotation.T

    polygons = {
        name: tuple((moved(outer), tuple(map(moved, holes))) for outer, holes in shapes)
        for name, shapes in layers.polygons.items()}
    lines = {name: tuple(map(moved, shapes)) for name, shapes in layers.lines.items()}
    return MapLayers(polygons, lines, layers.radius_m)


def looked_up(prediction: MapSegmentation, frame: Frame) -> np.ndarray:
    """Probabilities `(6, Y, X)` at the centres of the window's cells, 0 beyond the prediction."""
    ego_rotation, ego_position, rotation, position = _frames(frame)
    centres_YX2 = (MAP_GRID.centres_m() @ rotation + position - ego_position) @ ego_rotation.T

    probabilities = prediction.probabilities_6YX
    _, rows, columns = probabilities.shape
    (x0, x1), (y0, y1) = prediction.x_range_m, prediction.y_range_m
    column = np.floor((centres_YX2[..., 0] - x0) / (x1 - x0) * columns).astype(int)
    row = np.floor((centres_YX2[..., 1] - y0) / (y1 - y0) * rows).astype(int)

    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    found = probabilities[:, np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    return np.where(inside, found, 0)
