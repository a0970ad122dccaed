"""Dense occupancy labels with local density from the LiDAR of a whole scene, in Occ3D's file format.

The label pipeline of Collaborative Perceiver (LDO; Yuan et al. 2025, arXiv 2507.21358) is described in words
alone; the steps here follow what such pipelines share (Tian et al. 2023, Occ3D, arXiv 2304.14365, section 3),
so details are **inferred**:

1. points of all key frames (and sweeps, where asked for) are added up, apart for what stands still (global
   frame) and for every annotated object (its box's frame);
2. points without a label take the majority of their nearest labelled neighbours (lidarseg key frames),
   objects their box's class;
3. for every key frame the still points and its objects at their boxes are put together and cut into voxels by
   majority;
4. voxels that a beam of a neighbouring key frame passed or hit are seen by LiDAR; those that a sight line of
   a camera reaches before an occupied one, and the LiDAR knows, are seen by cameras;
5. local density d = log(1 + n) / log(1 + n_max) of the n points in a voxel.

Without lidarseg still points stay unlabelled: their voxels are occupied but of no class, which the file says
as 255.

Shape letters: P points, M boxes, X Y Z voxels of Occ3D's grid in ego.
"""
from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.files import write_bytes
from ..core.geometry import invert, points_in_boxes, transform_points
from ..core.protocols import CATEGORY_TO_CLASS, OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORED
from ..core.protocols import (
    OCCUPANCY_LOW_M as LOW_M,
)
from ..core.protocols import (
    OCCUPANCY_SHAPE_XYZ as SHAPE_XYZ,
)
from ..core.protocols import (
    OCCUPANCY_VOXEL_M as VOXEL_M,
)
from ..core.voxels import look_at_faces, look_through_border, walk_lines
from .reading.infos import Record, SceneFrames, scene_path, unpack_numbers, unpack_transform
from .reading.io import BadFile, load_lidar_bin

UNKNOWN = OCCUPANCY_IGNORED
LIDARSEG_TO_OCCUPANCY = np.array(
    [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0],
    np.uint8)
"""nuScenes-lidarseg's 32 categories (Fong et al. 2022, arXiv 2109.03805) -> `OCCUPANCY_CLASSES`, merged as in
its challenge."""


@dataclass(frozen=True)
class LabelOptions:
    """How labels are made.

    Args:
        sweeps: earlier sweeps per key frame that are added (the infos must list them).
        neighbours, reach_m: of the label vote.
        ray_frames: key frames before and after whose beams tell what is free.
        margin_m: by which boxes are widened.
        own_returns_m: points nearer to the sensor in x and y are the car itself.
        min_points: that make a voxel occupied.
    """

    sweeps: int = 0
    neighbours: int = 5
    reach_m: float = 0.8
    ray_frames: int = 3
    margin_m: float = 0.1
    own_returns_m: float = 1.5
    min_points: int = 1


@dataclass(frozen=True)
class DenseOccupancy:
    """Occ3D's three arrays, uint8 `(X, Y, Z)`, and density_XYZ float16 in 0..1."""

    semantics_XYZ: np.ndarray
    mask_lidar_XYZ: np.ndarray
    mask_camera_XYZ: np.ndarray
    density_XYZ: np.ndarray

    def to_bytes(self) -> bytes:
        """The content of `labels.npz`: Occ3D's names, and `density`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, semantics=self.semantics_XYZ, mask_lidar=self.mask_lidar_XYZ,
                            mask_camera=self.mask_camera_XYZ, density=self.density_XYZ)
        return buffer.getvalue()


@dataclass
class Cloud:
    """Points with labels (`UNKNOWN` where none), gathered part by part."""

    parts: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, points_P3: np.ndarray, labels_P: np.ndarray) -> None:
        self.parts.append((points_P3, labels_P))

    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """All points `(P, 3)` float64 and labels `(P,)` uint8."""
        if len(self.parts) == 1:
            return self.parts[0]
        if not self.parts:
            return np.zeros((0, 3)), np.zeros(0, np.uint8)
        return np.concatenate([p for p, _ in self.parts]), np.concatenate([q for _, q in self.parts])


@dataclass
class SceneCloud:
    """A scene's points: still ones in global, each instance's in its box's frame, and every key frame's beams
    (origin, ends)."""

    still: Cloud
    objects: dict[str, Cloud]
    beams: list[list[tuple[np.ndarray, np.ndarray]]]


def box_class(category: str) -> int:
    """Occupancy class of an annotated category; 0 ('others') for what is not detected."""
    name = CATEGORY_TO_CLASS.get(category, category)
    return OCCUPANCY_CLASSES.index(name) if name in OCCUPANCY_CLASSES else 0


def read_sweeps(
    root: Path, record: Record, options: LabelOptions
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """Readable LiDAR sweeps of a frame: points `(P, 3)` and sensor origin `(3,)` in the key frame's ego,
    labels, time lag.

    Raises:
        BadFile: a sweep that is there but damaged, or point labels of another length.
    """
    for i, sweep in enumerate(record['lidar'][:options.sweeps + 1]):
        if sweep['missing']:
            continue
        points = load_lidar_bin(root / sweep['file'])[:, :3].astype(np.float64)
        labels = np.full(len(points), UNKNOWN, np.uint8)
        if i == 0 and record['lidarseg']:
            labels = _point_labels(root / record['lidarseg'], len(points))
        far = (np.abs(points[:, :2]) >= options.own_returns_m).any(1)
        ego_T_lidar = unpack_transform(sweep['ego_T_sensor'])
        yield transform_points(ego_T_lidar, points[far]), ego_T_lidar[:3, 3], labels[far], sweep['time_lag_s']


def _point_labels(path: Path, count: int) -> np.ndarray:
    found = np.fromfile(path, np.uint8)
    if len(found) != count or (count and found.max() >= len(LIDARSEG_TO_OCCUPANCY)):
        raise BadFile(
            path,
            f'found {len(found)} labels up to {found.max() if len(found) else "-"}, expected {count} under '
            f'{len(LIDARSEG_TO_OCCUPANCY)}',
        )
    return LIDARSEG_TO_OCCUPANCY[found]


def boxes_of(record: Record) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Boxes `(M, 9)` in ego with unknown velocities 0, their instances, their occupancy classes."""
    boxes = record['boxes'] or {'boxes': [], 'instances': [], 'categories': []}
    return (np.nan_to_num(unpack_numbers(boxes['boxes'], 9)), boxes['instances'],
            np.array([box_class(c) for c in boxes['categories']], np.uint8))


def accumulate(root: Path, frames: Sequence[Record], options: LabelOptions) -> SceneCloud:
    """Add up the points of a scene (step 1); every point goes to the first box that holds it, or to what
    stands still."""
    cloud = SceneCloud(Cloud(), defaultdict(Cloud), [])
    for record in frames:
        global_T_ego, (boxes, instances, classes) = unpack_transform(record['global_T_ego']), boxes_of(record)
        beams = []
        for points, origin, labels, lag_s in read_sweeps(root, record, options):
            then = boxes.copy()
            then[:, :2] -= boxes[:, 7:9] * lag_s
            owner = owners(points, then, options.margin_m)
            for m in np.unique(owner[owner >= 0]):
                own = points[owner == m]
                cloud.objects[instances[m]].add(transform_points(invert(ego_T_box(then[m])), own),
                                                np.full(len(own), classes[m], np.uint8))
            cloud.still.add(transform_points(global_T_ego, points[owner < 0]), labels[owner < 0])
            beams.append(
                (transform_points(global_T_ego, origin[None])[0], transform_points(global_T_ego, points))
            )
        cloud.beams.append(beams)
    return cloud


def owners(points_P3: np.ndarray, boxes_M9: np.ndarray, margin_m: float) -> np.ndarray:
    """Index of the first box that holds each point, -1 for none: `(P,)`."""
    found = np.full(len(points_P3), -1)
    for m in range(len(boxes_M9) - 1, -1, -1):
        near = np.flatnonzero(
            (np.abs(points_P3[:, :2] - boxes_M9[m, :2]) <= np.hypot(*boxes_M9[m, 3:5])).all(1)
        )
        found[near[points_in_boxes(points_P3[near], boxes_M9[m:m + 1], margin_m)[:, 0]]] = m
    return found


def ego_T_box(box_9: np.ndarray) -> np.ndarray:
    """Pose `(4, 4)` of a box: origin at its centre, x along its heading."""
    c, s, pose = np.cos(box_9[6]), np.sin(box_9[6]), np.eye(4)
    pose[:2, :2], pose[:3, 3] = [[c, -s], [s, c]], box_9[:3]
    return pose


def vote(points_P3: np.ndarray, labels_P: np.ndarray, neighbours: int, reach_m: float) -> np.ndarray:
    """Labels with the unknown ones filled by the majority of their nearest labelled points within reach (step
    2)."""
    from scipy.spatial import cKDTree
    known = labels_P != UNKNOWN
    if known.all() or not known.any():
        return labels_P
    distance, index = cKDTree(points_P3[known]).query(
        points_P3[~known], k=neighbours, distance_upper_bound=reach_m
    )
    distance, index = distance.reshape(len(distance), -1), index.reshape(len(index), -1)
    candidates = np.append(labels_P[known], UNKNOWN)[index]
    counts = np.stack([((candidates == c) & np.isfinite(distance)).sum(1) for c in range(OCCUPANCY_FREE)], 1)
    filled = labels_P.copy()
    filled[~known] = np.where(counts.any(1), counts.argmax(1), UNKNOWN)
    return filled


def label_frame(
    cloud: SceneCloud, frames: Sequence[Record], index: int, options: LabelOptions
) -> DenseOccupancy:
    """The voxels of one key frame (steps 3 to 5) from a cloud whose labels are voted on already."""
    record = frames[index]
    ego_T_global = invert(unpack_transform(record['global_T_ego']))
    scene = Cloud()
    points, labels = cloud.still.joined()
    scene.add(transform_points(ego_T_global, points), labels)
    for box, instance, _ in zip(*boxes_of(record), strict=True):
        if instance in cloud.objects:
            points, labels = cloud.objects[instance].joined()
            scene.add(transform_points(ego_T_box(box), points), labels)
    semantics, counts = voxelise(*scene.joined(), options.min_points)
    occupied = (semantics != OCCUPANCY_FREE).astype(np.uint8)
    mask_lidar = seen_by_lidar(cloud.beams, index, ego_T_global, options.ray_frames) | occupied
    mask_camera = seen_by_cameras(record, occupied) & mask_lidar
    density = np.log1p(counts) / max(np.log1p(counts.max()), 1e-6)
    return DenseOccupancy(semantics, mask_lidar, mask_camera, density.astype(np.float16))


def voxelise(
    points_P3: np.ndarray, labels_P: np.ndarray, min_points: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Points in ego -> majority class per voxel (free without points, 255 without any label) and the number
    of points."""
    cells = np.floor((points_P3 - np.array(LOW_M)) / VOXEL_M).astype(np.int64)
    inside = ((cells >= 0) & (cells < SHAPE_XYZ)).all(1)
    flat, labels = np.ravel_multi_index(cells[inside].T, SHAPE_XYZ), labels_P[inside]
    size = int(np.prod(SHAPE_XYZ))
    counts = np.bincount(flat, minlength=size)
    known = labels != UNKNOWN
    votes = np.bincount(
        flat[known] * OCCUPANCY_FREE + labels[known], minlength=size * OCCUPANCY_FREE
    ).reshape(size, -1)
    semantics = np.where(votes.any(1), votes.argmax(1), UNKNOWN)
    semantics = np.where(counts >= min_points, semantics, OCCUPANCY_FREE)
    return semantics.astype(np.uint8).reshape(SHAPE_XYZ), counts.reshape(SHAPE_XYZ)


def seen_by_lidar(
    beams: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    index: int,
    ego_T_global: np.ndarray,
    ray_frames: int,
) -> np.ndarray:
    """Voxels that beams of the neighbouring key frames pass or hit: uint8 `(X, Y, Z)`."""
    mask, nothing = np.zeros(SHAPE_XYZ, np.uint8), np.zeros(SHAPE_XYZ, np.uint8)
    for sweeps in beams[max(0, index - ray_frames):index + ray_frames + 1]:
        for origin, ends in sweeps:
            start, stops = (
                ((transform_points(ego_T_global, p) - LOW_M) / VOXEL_M) for p in (origin[None], ends)
            )
            walk_lines(start[0], np.ascontiguousarray(stops), nothing, mask)
    return mask


def seen_by_cameras(record: Record, occupied_XYZ: np.ndarray) -> np.ndarray:
    """Voxels that a sight line from a camera reaches, up to and with the first occupied one: uint8 `(X, Y,
    Z)`."""
    mask = np.zeros(SHAPE_XYZ, np.uint8)
    for camera in record['cameras'].values():
        ego_T_cam = unpack_transform(camera['ego_T_sensor'])
        start, view = (ego_T_cam[:3, 3] - np.array(LOW_M)) / VOXEL_M, camera_view(camera, ego_T_cam)
        look_through_border(start, view, occupied_XYZ, mask)
        look_at_faces(start, view, occupied_XYZ, mask)
    return mask


def camera_view(camera: Record, ego_T_cam: np.ndarray) -> np.ndarray:
    """Inward normals `(5, 3)` in ego axes of the image's four sides and of what lies before the camera."""
    (fx, _, cx), (_, fy, cy) = camera['K'][:2]
    sides = np.array([[fx, 0, cx + 0.5], [-fx, 0, camera['width_px'] - 0.5 - cx], [0, fy, cy + 0.5],
                      [0, -fy, camera['height_px'] - 0.5 - cy], [0, 0, 1]])
    return sides @ ego_T_cam[:3, :3].T


def make_scene(
    root: Path, infos: Path, scene: str, out: Path, options: LabelOptions, overwrite: bool = False
) -> int:
    """Write `<out>/<scene>/<token>/labels.npz` for every key frame of a scene that has LiDAR; gives how many
    were written.

    Files that are there already are kept unless `overwrite`.
    """
    reader = SceneFrames(scene_path(infos, scene))
    frames = [reader.frame(token) for token in reader.header['tokens']]
    paths = [out / scene / frame['token'] / 'labels.npz' for frame in frames]
    wanted = [i for i, path in enumerate(paths) if overwrite or not path.is_file()]
    cloud = accumulate(root, frames, options) if wanted else None
    if cloud is None or not cloud.still.parts:
        return 0
    points, labels = cloud.still.joined()
    cloud.still = Cloud([(points, vote(points, labels, options.neighbours, options.reach_m))])
    for i in wanted:
        paths[i].parent.mkdir(parents=True, exist_ok=True)
        write_bytes(paths[i], label_frame(cloud, frames, i, options).to_bytes())
    return len(wanted)
