"""Clouds and grids in the frame that published weights were trained in."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...core.grid import BEVGrid
from ..records import SensorAxes


def turned_points(points: Tensor, axes: SensorAxes) -> Tensor:
    """Points with x, y, z first, from ego to the frame of `axes`."""
    x, y, z = (points[:, i] - axes.origin_m[i] for i in range(3))
    (xx, xy), (yx, yy) = axes.turn()  # ego = turn @ sensor, so this is its transpose
    return torch.cat([torch.stack([x * xx + y * yx, x * xy + y * yy, z], 1), points[:, 3:]], 1)


def turned_grid(grid: BEVGrid, axes: SensorAxes) -> BEVGrid:
    """The same ground and heights, seen in the frame of `axes`."""
    corners = np.array([grid.x_range_m, grid.y_range_m, grid.z_range_m]).T - axes.origin_m
    corners[:, :2] = corners[:, :2] @ np.array(axes.turn())  # ego = turn @ sensor
    x_range_m, y_range_m, z_range_m = np.sort(corners, 0).round(9).T.tolist()
    return replace(grid, x_range_m=x_range_m, y_range_m=y_range_m, z_range_m=z_range_m)


def turned_back(bev_BCYX: Tensor, axes: SensorAxes) -> Tensor:
    """A map in the frame of `axes` -> in ego axes."""
    turns = -axes.quarter_turns % 4
    return torch.rot90(bev_BCYX, turns, (2, 3)) if turns else bev_BCYX
