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

from ..core.contracts import CENTRE, SIZE, VELOCITY, XY, XYZ, YAW
from ..core.files import file_name, path_below, write_bytes
from ..core.geometry import invert, points_in_boxes, transform_points
from ..core.protocols import (
    OCCUPANCY_FREE,
    OCCUPANCY_IGNORED,
    OCCUPANCY_LOW_M,
    OCCUPANCY_SHAPE_XYZ,
    OCCUPANCY_VOXEL_M,
)
from ..core.reading import read_file
from ..core.voxels import camera_sight, look_at_faces, look_through_border, walk_lines
from .reading.infos import SceneFrames, scene_path
from .reading.io import SENSOR_FILE_MIB, BadFile, load_lidar_bin
from .reading.labels import box_class
from .reading.records import BoxRecords, FrameRecord

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
        neighbours, reach_m: how many labelled points vote on an unlabelled one, from how far.
        ray_frames: key frames before and after whose beams tell what is free.
        margin_m: by which boxes are widened.
        own_returns_m: points nearer to the sensor in x and y are the car itself.
        min_points: fewest points that make a voxel occupied.
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
        """Add points `(P, 3)` with their labels `(P,)`."""
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
    """A scene's points.

    Attributes:
        still: those of what stands still, in the global frame.
        objects: {instance: its points in its box's frame}.
        beams: of every key frame, per sweep: origin `(3,)` and ends `(P, 3)`, global.
    """

    still: Cloud
    objects: dict[str, Cloud]
    beams: list[list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class LabelledSweep:
    """Points `(P, 3)` of one LiDAR sweep and its origin `(3,)` in the key frame's ego, labels, time lag."""

    points_P3: np.ndarray
    origin_3: np.ndarray
    labels_P: np.ndarray
    time_lag_s: float


def read_sweeps(root: Path, frame: FrameRecord, options: LabelOptions) -> Iterator[LabelledSweep]:
    """The readable LiDAR sweeps of a frame; those of the key frame are labelled where lidarseg is there.

    Raises:
        BadFile: a sweep that is there but damaged, or point labels of another length.
    """
    for i, sweep in enumerate(frame.lidar[: options.sweeps + 1]):
        if sweep.missing:
            continue
        points = load_lidar_bin(path_below(root, sweep.file))[:, XYZ].astype(np.float64)
        labels = np.full(len(points), UNKNOWN, np.uint8)
        if i == 0 and frame.lidarseg:
            labels = _point_labels(path_below(root, frame.lidarseg), len(points))

        far = (np.abs(points[:, XY]) >= options.own_returns_m).any(1)
        yield LabelledSweep(
            points_P3=transform_points(sweep.ego_T_sensor, points[far]),
            origin_3=sweep.ego_T_sensor[:3, 3],
            labels_P=labels[far],
            time_lag_s=sweep.time_lag_s)


def _point_labels(path: Path, count: int) -> np.ndarray:
    labels = np.frombuffer(read_file(path, SENSOR_FILE_MIB, 'point labels'), np.uint8)
    known = len(LIDARSEG_TO_OCCUPANCY)
    if len(labels) != count or (count and labels.max() >= known):
        highest = labels.max() if len(labels) else '-'
        raise BadFile(
            path, f'found {len(labels)} labels up to {highest}, expected {count} under {known}'
        )
    return LIDARSEG_TO_OCCUPANCY[labels]


def boxes_of(frame: FrameRecord) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Boxes `(M, 9)` in ego with unknown velocities 0, their instances, their occupancy classes."""
    records = frame.boxes or BoxRecords.empty()
    classes = np.array([box_class(name) for name in records.categories], np.uint8)
    return np.nan_to_num(records.boxes_M9), records.instances, classes


def accumulate(root: Path, frames: Sequence[FrameRecord], options: LabelOptions) -> SceneCloud:
    """Add up the points of a scene (step 1).

    Every point goes to the first box that holds it, or to what stands still.
    """
    cloud = SceneCloud(Cloud(), defaultdict(Cloud), [])
    for frame in frames:
        beams = []
        for sweep in read_sweeps(root, frame, options):
            _add_sweep(cloud, sweep, frame, options.margin_m)
            origin, ends = (
                transform_points(frame.global_T_ego, points)
                for points in (sweep.origin_3[None], sweep.points_P3))
            beams.append((origin[0], ends))
        cloud.beams.append(beams)
    return cloud


def _add_sweep(cloud: SceneCloud, sweep: LabelledSweep, frame: FrameRecord, margin_m: float) -> None:
    boxes, instances, classes = boxes_of(frame)

    # where the boxes were when the sweep was taken
    boxes[:, XY] -= boxes[:, VELOCITY] * sweep.time_lag_s
    owner = owners(sweep.points_P3, boxes, margin_m)
    for m in np.unique(owner[owner >= 0]):
        points = transform_points(invert(ego_T_box(boxes[m])), sweep.points_P3[owner == m])
        cloud.objects[instances[m]].add(points, np.full(len(points), classes[m], np.uint8))

    loose = owner < 0
    cloud.still.add(transform_points(frame.global_T_ego, sweep.points_P3[loose]), sweep.labels_P[loose])


def owners(points_P3: np.ndarray, boxes_M9: np.ndarray, margin_m: float) -> np.ndarray:
    """Index of the first box that holds each point, -1 for none: `(P,)`."""
    owner = np.full(len(points_P3), -1)
    for m in range(len(boxes_M9) - 1, -1, -1):
        # only points within the box's diagonal need the exact test
        centre, size = boxes_M9[m, CENTRE], boxes_M9[m, SIZE]
        near = np.flatnonzero((np.abs(points_P3[:, XY] - centre[:2]) <= np.hypot(*size[:2])).all(1))
        inside = points_in_boxes(points_P3[near], boxes_M9[m : m + 1], margin_m)[:, 0]
        owner[near[inside]] = m
    return owner


def ego_T_box(box_9: np.ndarray) -> np.ndarray:
    """Pose `(4, 4)` of a box: origin at its centre, x along its heading."""
    cos, sin = np.cos(box_9[YAW]), np.sin(box_9[YAW])
    pose = np.eye(4)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:3, 3] = box_9[CENTRE]
    return pose


def vote(points_P3: np.ndarray, labels_P: np.ndarray, neighbours: int, reach_m: float) -> np.ndarray:
    """Labels with the unknown ones filled by the majority of their nearest labelled neighbours (step 2)."""
    from scipy.spatial import cKDTree

    known = labels_P != UNKNOWN
    if known.all() or not known.any():
        return labels_P
    tree = cKDTree(points_P3[known])
    distance, index = tree.query(points_P3[~known], k=neighbours, distance_upper_bound=reach_m)

    # one neighbour gives (P,), more give (P, K); a place that stays empty has the index after the last
    distance = distance.reshape(len(distance), -1)
    index = index.reshape(len(index), -1)
    candidates = np.append(labels_P[known], UNKNOWN)[index]
    within = np.isfinite(distance)
    counts = np.stack([((candidates == c) & within).sum(1) for c in range(OCCUPANCY_FREE)], 1)

    filled = labels_P.copy()
    filled[~known] = np.where(counts.any(1), counts.argmax(1), UNKNOWN)
    return filled


def label_frame(
    cloud: SceneCloud, frames: Sequence[FrameRecord], index: int, options: LabelOptions
) -> DenseOccupancy:
    """The voxels of one key frame (steps 3 to 5) from a cloud whose labels are voted on already."""
    frame = frames[index]
    ego_T_global = invert(frame.global_T_ego)
    scene = Cloud()
    points, labels = cloud.still.joined()
    scene.add(transform_points(ego_T_global, points), labels)
    boxes, instances, _ = boxes_of(frame)
    for box, instance in zip(boxes, instances, strict=True):
        if instance in cloud.objects:
            points, labels = cloud.objects[instance].joined()
            scene.add(transform_points(ego_T_box(box), points), labels)

    semantics, counts = voxelise(*scene.joined(), options.min_points)
    occupied = (semantics != OCCUPANCY_FREE).astype(np.uint8)
    mask_lidar = seen_by_lidar(cloud.beams, index, ego_T_global, options.ray_frames) | occupied
    mask_camera = seen_by_cameras(frame, occupied) & mask_lidar
    density = np.log1p(counts) / max(np.log1p(counts.max()), 1e-6)
    return DenseOccupancy(semantics, mask_lidar, mask_camera, density.astype(np.float16))


def voxelise(
    points_P3: np.ndarray, labels_P: np.ndarray, min_points: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Cut points in ego into voxels.

    Returns:
        Majority class per voxel (free without points, 255 without any label) and the number of points, both
        `(X, Y, Z)`.
    """
    cells = np.floor((points_P3 - np.array(OCCUPANCY_LOW_M)) / OCCUPANCY_VOXEL_M).astype(np.int64)
    inside = ((cells >= 0) & (cells < OCCUPANCY_SHAPE_XYZ)).all(1)
    flat = np.ravel_multi_index(cells[inside].T, OCCUPANCY_SHAPE_XYZ)
    labels = labels_P[inside]
    size = int(np.prod(OCCUPANCY_SHAPE_XYZ))
    counts = np.bincount(flat, minlength=size)

    # votes (voxels, classes): one histogram over voxel and class together
    known = labels != UNKNOWN
    votes = np.bincount(flat[known] * OCCUPANCY_FREE + labels[known], minlength=size * OCCUPANCY_FREE)
    votes = votes.reshape(size, -1)
    semantics = np.where(votes.any(1), votes.argmax(1), UNKNOWN)
    semantics = np.where(counts >= min_points, semantics, OCCUPANCY_FREE)
    return semantics.astype(np.uint8).reshape(OCCUPANCY_SHAPE_XYZ), counts.reshape(OCCUPANCY_SHAPE_XYZ)


def seen_by_lidar(
    beams: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    index: int,
    ego_T_global: np.ndarray,
    ray_frames: int,
) -> np.ndarray:
    """Voxels that beams of the neighbouring key frames pass or hit: uint8 `(X, Y, Z)`."""
    mask = np.zeros(OCCUPANCY_SHAPE_XYZ, np.uint8)
    nothing = np.zeros(OCCUPANCY_SHAPE_XYZ, np.uint8)
    for sweeps in beams[max(0, index - ray_frames):index + ray_frames + 1]:
        for origin, ends in sweeps:
            start, stops = (
                (transform_points(ego_T_global, points) - OCCUPANCY_LOW_M) / OCCUPANCY_VOXEL_M
                for points in (origin[None], ends))
            walk_lines(start[0], np.ascontiguousarray(stops), nothing, mask)
    return mask


def seen_by_cameras(frame: FrameRecord, occupied_XYZ: np.ndarray) -> np.ndarray:
    """Voxels that a camera's sight line reaches, up to and with the first occupied one: uint8 `(X, Y, Z)`."""
    mask = np.zeros(OCCUPANCY_SHAPE_XYZ, np.uint8)
    for camera in frame.cameras.values():
        start = (camera.ego_T_sensor[:3, 3] - np.array(OCCUPANCY_LOW_M)) / OCCUPANCY_VOXEL_M
        size_hw = (camera.height_px, camera.width_px)
        view = camera_sight(camera.K_33, size_hw, camera.ego_T_sensor, camera.distortion)
        look_through_border(start, view, occupied_XYZ, mask)
        look_at_faces(start, view, occupied_XYZ, mask)
    return mask


def write_scene_labels(
    root: Path, infos: Path, scene: str, out: Path, options: LabelOptions, overwrite: bool = False
) -> int:
    """Write `<out>/<scene>/<token>/labels.npz` for every key frame of a scene that has LiDAR.

    Files that are there already are kept unless `overwrite`.

    Returns:
        How many were written.
    """
    frames = SceneFrames(scene_path(infos, scene)).frames()
    folder = out / file_name(scene, 'scene')
    paths = [folder / file_name(frame.token, 'sample token') / 'labels.npz' for frame in frames]
    todo = [i for i, path in enumerate(paths) if overwrite or not path.is_file()]
    cloud = accumulate(root, frames, options) if todo else None
    if cloud is None or not cloud.still.parts:
        return 0

    points, labels = cloud.still.joined()
    cloud.still = Cloud([(points, vote(points, labels, options.neighbours, options.reach_m))])
    for i in todo:
        paths[i].parent.mkdir(parents=True, exist_ok=True)
        write_bytes(paths[i], label_frame(cloud, frames, i, options).to_bytes())
    return len(todo)
