"""A batch as it looks in mirrors: the world swapped about the car, images swapped left to right."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch import Tensor

from ..core.contracts import RADAR_VELOCITY, XYZ, Batch, Frame
from ..core.geometry import invert
from ..core.grid import BEVGrid
from ..datasets.transforms.bev import bev_transform
from ..datasets.transforms.image import mirroring
from ..heads.averaging import Mirror, cells_behind

MIRRORED = ('x', 'y', 'images')


@dataclass(frozen=True)
class View:
    """How one forward sees a batch.

    Args:
        mirror: of the world: points, radar returns with their velocities, cameras and poses move.
        flip_images: images are swapped left to right, and their cameras with them: the world stays.
    """

    mirror: Mirror = Mirror()
    flip_images: bool = False


def make_views(mirrored: Sequence[str], at_m: tuple[float, float] = (0.0, 0.0)) -> list[View]:
    """Every combination of what may be mirrored, the batch as it is first: 2 to the power of their number.

    Args:
        mirrored: some of `MIRRORED`.
        at_m: where the mirrors of the world stand.

    Raises:
        ValueError: another word, or one twice.
    """
    if set(mirrored) - set(MIRRORED) or len(set(mirrored)) < len(mirrored):
        raise ValueError(f'expected different ones out of {", ".join(MIRRORED)}, found {", ".join(mirrored)}')
    choices = [(False, True) if name in mirrored else (False,) for name in MIRRORED]
    return [View(Mirror(x, y, at_m), images) for x, y, images in product(*choices)]


def mirror_places(grids: Sequence[BEVGrid], mirrored: Sequence[str]) -> tuple[float, float]:
    """Where mirrors may stand so that the cells of every grid meet cells: at the car, or in a grid's middle.

    Not where a mirrored grid covers nothing of itself, as at the car one that lies ahead of it.

    Raises:
        ValueError: there is no such place.
    """
    places = []
    for axis, name in enumerate('xy'):
        ranges = [(grid.x_range_m, grid.y_range_m)[axis] for grid in grids]
        candidates = [0.0, *(sum(limits) / 2 for limits in ranges)] if name in mirrored else [0.0]
        fits = [
            at_m for at_m in candidates
            if all(_covers(grid, axis, at_m) for grid in grids)]
        if name in mirrored and not fits:
            cells = ', '.join(
                f'{grid.cell_m:g} m from {low:g} m' for grid, (low, _) in zip(grids, ranges, strict=True))
            raise ValueError(
                f'{name} is not mirrored: no mirror brings the cells of all tasks to cells: {cells}')
        places.append(fits[0] if name in mirrored else 0.0)
    return places[0], places[1]


def _covers(grid: BEVGrid, axis: int, at_m: float) -> bool:
    """Whether some cells of a grid, mirrored along an axis (0 x, 1 y), lie on its cells."""
    shifts = cells_behind(grid, Mirror(axis == 0, axis == 1, (at_m, at_m)))
    return shifts is not None and abs(shifts[axis]) < (grid.x_size, grid.y_size)[axis]


def mirrored_batch(batch: Batch, view: View) -> Batch:
    """The batch as the view sees it, clips' earlier frames too; what is absent stays so."""
    before = tuple(mirrored_batch(earlier, view) for earlier in batch.before)
    batch = replace(batch, before=before)
    if view.flip_images and batch.images_BN3HW is not None:
        batch = _with_flipped_images(batch)

    mirror = view.mirror
    if not (mirror.flip_x or mirror.flip_y):
        return batch
    flips = (mirror.flip_x, mirror.flip_y)
    shift_m = [2 * at_m * flip for flip, at_m in zip(flips, mirror.at_m, strict=True)]
    return _moved(batch, bev_transform(*flips, shift_m=(*shift_m, 0.0)))


def _with_flipped_images(batch: Batch) -> Batch:
    """Images swapped left to right with their cameras, so that a point keeps its pixel."""
    flip = batch.K_BN33.new_tensor(mirroring(batch.images_BN3HW.shape[-1]))
    return replace(batch, images_BN3HW=batch.images_BN3HW.flip(-1), K_BN33=flip @ batch.K_BN33)


def _moved(batch: Batch, new_T_old: np.ndarray) -> Batch:
    """One moment's batch in a mirrored ego frame, as `transforms.bev.move_sample` moves a sample."""
    signs, shift_m = np.diag(new_T_old)[:3], new_T_old[:3, 3]

    def moved(points: Tensor, velocity: slice | None = None) -> Tensor:
        points = points.clone()
        points[:, XYZ] = points[:, XYZ] * points.new_tensor(signs) + points.new_tensor(shift_m)
        if velocity is not None:
            points[:, velocity] *= points.new_tensor(signs[:2])
        return points

    cameras, lidar, radar = batch.ego_T_cam_BN44, batch.lidar_points, batch.radar_points
    return replace(
        batch,
        frames=tuple(_moved_frame(frame, new_T_old) for frame in batch.frames),
        ego_T_cam_BN44=None if cameras is None else cameras.new_tensor(new_T_old) @ cameras,
        lidar_points=None if lidar is None else tuple(map(moved, lidar)),
        radar_points=None if radar is None else tuple(moved(points, RADAR_VELOCITY) for points in radar))


def _moved_frame(frame: Frame, new_T_old: np.ndarray) -> Frame:
    """Global positions stay where they are."""
    frame = replace(frame, global_T_ego=frame.global_T_ego @ invert(new_T_old))
    if frame.ego_T_lidar is not None:
        frame = replace(frame, ego_T_lidar=new_T_old @ frame.ego_T_lidar)
    return frame
