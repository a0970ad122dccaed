"""A rig as a picture: from above near and far, from the left, and the ground that nobody sees."""
from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import write_bytes
from ..core.rig.coverage import REACH_M, RINGS_M, GroundCoverage, ground_coverage, view_angles_rad
from ..core.rig.sensors import CameraSensor, LidarSensor, SensorRig

COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8c564b', '#7f7f7f')
LIDAR_COLOUR, RADAR_COLOUR = '#222222', '#b22222'
CAMERA_REACH_M = 40.0
NEAR_M = 9.0
CAR_M = (-1.0, 3.8, 0.95)
"""Rear and front from the axle, and half the width: a drawing of a common car, no fact of the rig."""


def draw_rig(rig: SensorRig, path: str | Path, title: str) -> Path:
    """Write a PNG with three views of a rig."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 9.5))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 2, width_ratios=(1.15, 1), left=0.04, right=0.98, bottom=0.06, top=0.92, wspace=0.1, hspace=0.25)
    far, near, side = (
        figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1]))
    figure.suptitle(title, parse_math=False)  # a file's name may have dollars

    _draw_far(far, rig)
    _draw_near(near, rig)
    _draw_side(side, rig)
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=90)
    return write_bytes(path, content.getvalue())


def _colours(rig: SensorRig) -> dict[str, str]:
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(rig.cameras)}


def _draw_car(axes: Any) -> None:
    rear, front, half = CAR_M
    axes.fill([half, half, -half, -half], [rear, front, front, rear], color='#dddddd', zorder=2)
    axes.plot(0, 0, '+', color='black', zorder=5)


def _wedge(xyz_m: np.ndarray, angles_rad: tuple[float, float], reach_m: float) -> np.ndarray:
    """Corners (P, 2) of a field of view from above: x, y in ego."""
    around = np.linspace(*angles_rad, 40)
    rim = xyz_m[:2] + reach_m * np.stack([np.cos(around), np.sin(around)], 1)
    return np.concatenate([xyz_m[None, :2], rim])


# -------------------------------------------------------------------- from above

def _draw_far(axes: Any, rig: SensorRig) -> None:
    """Fields of view with their ranges, the ground that nobody sees, and its share of every ring."""
    ground = ground_coverage(rig)
    _shade(axes, ground)
    for name, camera in rig.cameras.items():
        corners = _wedge(camera.ego_T_cam[:3, 3], view_angles_rad(camera), CAMERA_REACH_M)
        width_deg = math.degrees(np.subtract(*view_angles_rad(camera)[::-1]))
        axes.fill(
            -corners[:, 1], corners[:, 0], color=_colours(rig)[name], alpha=0.18, zorder=2,
            label=f'{name}: {width_deg:.0f} degrees')
    for radar in rig.radars.values():
        _draw_radar(axes, radar)

    _draw_rings(axes, ground.unseen(ground.by_camera), ground.unseen(ground.by_camera | ground.by_lidar))
    _draw_car(axes)
    axes.set(
        xlim=(-REACH_M, REACH_M), ylim=(-REACH_M, REACH_M), aspect='equal', xlabel='to the right (m)',
        ylabel='forward (m)')
    axes.set_title(
        f'fields of view: cameras to {CAMERA_REACH_M:.0f} m, radars dotted; share of each ring that no '
        'camera / nothing sees', fontsize=10)
    axes.legend(loc='lower left', fontsize=8)


def _shade(axes: Any, ground: GroundCoverage) -> None:
    """Ground that no camera sees in grey, what no LiDAR sees either dark; forward is up."""
    shades = np.zeros((*ground.by_camera.shape, 4))
    shades[~ground.by_camera] = (0.55, 0.55, 0.55, 0.5)
    shades[~ground.by_camera & ~ground.by_lidar] = (0.15, 0.15, 0.15, 0.7)

    # rows along +x, columns along -y
    half_m = float(ground.x_m[-1] + (ground.x_m[1] - ground.x_m[0]) / 2)
    axes.imshow(
        shades[:, ::-1], origin='lower', extent=(-half_m, half_m, -half_m, half_m), zorder=1,
        interpolation='nearest')


def _draw_radar(axes: Any, radar: Any) -> None:
    yaw = math.atan2(*radar.ego_T_radar[[1, 0], 0])
    for half_rad, reach_m in (
            (radar.near_half_angle_rad, radar.near_range_m), (radar.far_half_angle_rad, radar.far_range_m)):
        corners = _wedge(radar.ego_T_radar[:3, 3], (yaw - half_rad, yaw + half_rad), reach_m)
        closed = np.concatenate([corners, corners[:1]])
        axes.plot(-closed[:, 1], closed[:, 0], ':', color=RADAR_COLOUR, linewidth=1, zorder=3)


def _draw_rings(axes: Any, by_camera: list[float], by_any: list[float]) -> None:
    around = np.linspace(0, 2 * math.pi, 200)
    for low_m, high_m, share, dark in zip(RINGS_M[:-1], RINGS_M[1:], by_camera, by_any, strict=True):
        axes.plot(high_m * np.sin(around), high_m * np.cos(around), color='white', linewidth=0.8, zorder=3)
        axes.text(
            0.7 * (low_m + high_m) / 2, -0.7 * (low_m + high_m) / 2, f'{share:.0%} / {dark:.0%}', fontsize=8,
            ha='center', zorder=6, bbox={'facecolor': 'white', 'alpha': 0.8, 'pad': 1, 'linewidth': 0})


def _draw_near(axes: Any, rig: SensorRig) -> None:
    """Positions, directions, and the ground around the car that nobody sees."""
    _shade(axes, ground_coverage(rig, NEAR_M, 0.1))
    _draw_car(axes)
    for name, camera in rig.cameras.items():
        xyz_m, sight = camera.ego_T_cam[:3, 3], camera.ego_T_cam[:3, 2]
        corners = _wedge(xyz_m, view_angles_rad(camera), 1.2)
        axes.fill(-corners[:, 1], corners[:, 0], color=_colours(rig)[name], alpha=0.8, zorder=4)
        end = xyz_m + np.array([3.0, 5.0, 0.0]) * sight
        axes.text(
            -end[1], end[0], f'{name}\n{xyz_m[2]:.2f} m', fontsize=8, zorder=6, ha='center', va='center',
            bbox={'facecolor': 'white', 'edgecolor': _colours(rig)[name], 'pad': 2})

    for lidar in rig.lidars.values():
        x, y, z = lidar.ego_T_lidar[:3, 3]
        axes.plot(-y, x, 'o', color=LIDAR_COLOUR, zorder=5)
        axes.text(-y, x + 0.3, f'{lidar.name} {z:.2f} m', fontsize=8, ha='center', zorder=6)
    for radar in rig.radars.values():
        x, y, z = radar.ego_T_radar[:3, 3]
        axes.plot(
            -y, x, '^', color=RADAR_COLOUR, markersize=6, zorder=5, label=f'{radar.name} {z:.2f} m')
    axes.set(
        xlim=(-NEAR_M, NEAR_M), ylim=(-7, NEAR_M), aspect='equal', xlabel='to the right (m)',
        ylabel='forward (m)')
    axes.set_title('ground that no camera sees (grey), no LiDAR either (dark); heights; + ego', fontsize=10)
    if rig.radars:
        axes.legend(loc='upper left', bbox_to_anchor=(1.02, 1), fontsize=8, title='radars', frameon=False)


# -------------------------------------------------------------------- from the left

def _draw_side(axes: Any, rig: SensorRig) -> None:
    """Heights, and the upper and lower borders of what cameras and LiDAR see."""
    rear, front, _ = CAR_M
    axes.fill([rear, front, front, rear], [0.3, 0.3, 1.4, 1.4], color='#dddddd', zorder=1)
    axes.axhline(0, color='black', linewidth=1)
    for name, camera in rig.cameras.items():
        _draw_borders(axes, camera, _colours(rig)[name])
    for lidar in rig.lidars.values():
        _draw_beams(axes, lidar)
    for radar in rig.radars.values():
        axes.plot(*radar.ego_T_radar[[0, 2], 3], '^', color=RADAR_COLOUR, markersize=5)

    axes.set(xlim=(-15, 17), ylim=(-0.4, 5), xlabel='forward (m)', ylabel='up (m)')
    axes.set_title(
        'from the left: upper and lower border of cameras that look forward or back, and of the LiDAR',
        fontsize=10)


def _draw_borders(axes: Any, camera: CameraSensor, colour: str) -> None:
    x, _, z = camera.ego_T_cam[:3, 3]
    axes.plot(x, z, 's', color=colour, zorder=5)
    sight = camera.ego_T_cam[:3, 2]
    along = math.hypot(sight[0], sight[1])
    if along < 0.2 or abs(sight[0]) / along < 0.9:
        return  # looks to the side

    from ..core.lens.projection import lens_unproject

    middle = (camera.size_hw[1] - 1) / 2
    rows = np.array([[middle, -0.5], [middle, camera.size_hw[0] - 0.5]])
    rays = lens_unproject(camera.K_33, rows, np.ones(2), camera.distortion) @ camera.ego_T_cam[:3, :3].T
    for ray in rays[np.isfinite(rays).all(1)]:
        end = np.array([x, z]) + 14 * ray[[0, 2]] / np.linalg.norm(ray[[0, 2]])
        if end[1] < 0:
            end = np.array([x - (end[0] - x) * z / (end[1] - z), 0.0])
        axes.plot([x, end[0]], [z, end[1]], color=colour, linewidth=1.2)


def _draw_beams(axes: Any, lidar: LidarSensor) -> None:
    x, _, z = lidar.ego_T_lidar[:3, 3]
    axes.plot(x, z, 'o', color=LIDAR_COLOUR, zorder=5)
    for elevation in lidar.elevations_rad[[0, -1]]:
        for way in (-1, 1):
            reach = 14.0 if elevation >= 0 else min(14.0, z / math.tan(-elevation))
            axes.plot(
                [x, x + way * reach], [z, z + reach * math.tan(elevation)], '--', color=LIDAR_COLOUR,
                linewidth=0.8)
