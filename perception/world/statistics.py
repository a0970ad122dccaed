"""Statistics of a nuScenes-format dataset, to compare a world with real frames.

Everything is read from the tables and the sensor files with nothing but JSON, numpy and OpenCV. A box's speed
is the difference to its neighbours in time, as the official evaluation takes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..core.nuscenes.storage import load_json
from ..core.nuscenes.tables import Row
from ..core.protocols import CATEGORY_TO_CLASS, DETECTION_CLASSES

DISTANCE_BINS_M = ((0, 10), (10, 20), (20, 30), (30, 50))
MOVING_M_PER_S = 0.5
MAX_GAP_S = 1.5
OWN_CAR_M = 2.0
GROUND_Z_M = (-2.1, -1.6)
"""Height of the ground in the frame of a LiDAR 1.84 m above it."""
GROUND_RANGES_M = ((3, 10), (10, 20))
READ_TABLES = (
    'category', 'instance', 'sample', 'sample_data', 'sample_annotation', 'ego_pose', 'calibrated_sensor',
    'sensor')


@dataclass(frozen=True)
class BoxStatistics:
    """Boxes of the detection classes, one row each.

    Attributes:
        class_M: (M,) detection class.
        lwh_M3: (M, 3) metres.
        distance_M: (M,) metres from the ego in the ground plane.
        speed_M: (M,) m/s, NaN when no neighbour in time is known.
        lidar_points_M: (M,) points inside.
    """

    class_M: np.ndarray
    lwh_M3: np.ndarray
    distance_M: np.ndarray
    speed_M: np.ndarray
    lidar_points_M: np.ndarray


class Dataset:
    """The tables of a dataset with the look-ups that the statistics need.

    Raises:
        FileNotFoundError: names the table that is missing.
    """

    def __init__(self, root: Path | str, version: str) -> None:
        self.root = Path(root)
        self.tables: dict[str, list[Row]] = {}
        for name in READ_TABLES:
            path = self.root / version / f'{name}.json'
            if not path.is_file():
                raise FileNotFoundError(f'{path}: table is missing, expected a nuScenes-format dataset')
            self.tables[name] = load_json(path)
        self.by_token = {name: {row['token']: row for row in rows} for name, rows in self.tables.items()}

    def channel(self, sample_data: Row) -> str:
        """Sensor channel of a measurement."""
        calibration = self.by_token['calibrated_sensor'][sample_data['calibrated_sensor_token']]
        return self.by_token['sensor'][calibration['sensor_token']]['channel']

    def key_files(self, prefix: str) -> list[Path]:
        """Existing files of key frames whose channel starts with `prefix`."""
        files = [self.root / row['filename'] for row in self.tables['sample_data']
                 if row['is_key_frame'] and self.channel(row).startswith(prefix)]
        return [path for path in files if path.is_file()]

    def ego_xy_of_samples(self) -> dict[str, np.ndarray]:
        """Where the ego is at the LiDAR time of each sample."""
        poses = self.by_token['ego_pose']
        return {
            row['sample_token']: np.array(poses[row['ego_pose_token']]['translation'][:2])
            for row in self.tables['sample_data']
            if row['is_key_frame'] and self.channel(row).startswith('LIDAR')
        }


def box_speed(dataset: Dataset, annotation: Row) -> float:
    """Speed in the ground plane in m/s from the neighbours in time, NaN when there are none near enough."""
    annotations, samples = dataset.by_token['sample_annotation'], dataset.by_token['sample']
    first, last = (annotations[annotation[side]] if annotation[side] else annotation
                   for side in ('prev', 'next'))
    first_us, last_us = (samples[row['sample_token']]['timestamp'] for row in (first, last))
    gap_s = (last_us - first_us) * 1e-6

    # between two neighbours twice the gap is allowed, as the official evaluation does
    both = bool(annotation['prev'] and annotation['next'])
    if gap_s <= 0 or gap_s > MAX_GAP_S * (2 if both else 1):
        return float('nan')
    return float(np.hypot(*(np.array(last['translation'][:2]) - first['translation'][:2])) / gap_s)


def box_statistics(dataset: Dataset) -> BoxStatistics:
    """Size, distance, speed and LiDAR points of every annotated box of a detection class."""
    ego_xy = dataset.ego_xy_of_samples()
    rows = []
    for annotation in dataset.tables['sample_annotation']:
        instance = dataset.by_token['instance'][annotation['instance_token']]
        name = CATEGORY_TO_CLASS.get(dataset.by_token['category'][instance['category_token']]['name'])
        if name is not None and annotation['sample_token'] in ego_xy:
            width, length, height = annotation['size']
            offset = np.array(annotation['translation'][:2]) - ego_xy[annotation['sample_token']]
            rows.append((name, (length, width, height), np.hypot(*offset), box_speed(dataset, annotation),
                         annotation['num_lidar_pts']))

    classes, sizes, distances, speeds, points = zip(*rows, strict=True) if rows else ((),) * 5
    return BoxStatistics(np.array(classes, str), np.array(sizes).reshape(-1, 3), np.array(distances, float),
                         np.array(speeds, float), np.array(points, float))


def class_statistics(boxes: BoxStatistics, name: str, frames: int) -> dict[str, Any]:
    """Statistics of one class: boxes per frame, mean size, speeds, mean points per box by distance."""
    mine = boxes.class_M == name
    speed = boxes.speed_M[mine & np.isfinite(boxes.speed_M)]
    moving = speed[speed > MOVING_M_PER_S]

    by_distance = {}
    for low, high in DISTANCE_BINS_M:
        inside = mine & (boxes.distance_M >= low) & (boxes.distance_M < high)
        by_distance[f'{low}-{high} m'] = mean_or_none(boxes.lidar_points_M[inside])

    return {'boxes_per_frame': float(mine.sum() / max(frames, 1)),
            'size_lwh_m': [mean_or_none(boxes.lwh_M3[mine, axis]) for axis in range(3)],
            'moving_share': mean_or_none(speed > MOVING_M_PER_S),
            'moving_speed_m_per_s': mean_or_none(moving), 'lidar_points_per_box': by_distance}


def mean_or_none(values: Sequence[float] | np.ndarray) -> float | None:
    """Mean, or None where there is nothing to average."""
    return float(np.mean(values)) if len(values) else None


def lidar_points_per_frame(files: Iterable[Path]) -> list[int]:
    """Number of points of each LiDAR file (five float32 a point)."""
    return [path.stat().st_size // 20 for path in files]


def lidar_echoes(files: Iterable[Path]) -> dict[str, float | None]:
    """Points beyond the own car per frame, and the median intensity of the ground by range.

    A file may hold beams without an echo as points at the sensor; these do not count.
    """
    beyond: list[int] = []
    ground: dict[tuple[int, int], list[np.ndarray]] = {bounds: [] for bounds in GROUND_RANGES_M}
    for path in files:
        points = np.fromfile(path, np.float32).reshape(-1, 5)
        range_m = np.linalg.norm(points[:, :3], axis=1)
        beyond.append(int((range_m > OWN_CAR_M).sum()))

        at_ground = (points[:, 2] > GROUND_Z_M[0]) & (points[:, 2] < GROUND_Z_M[1])
        for (low, high), intensities in ground.items():
            intensities.append(points[at_ground & (range_m > low) & (range_m < high), 3])

    echoes = {'beyond 2 m': mean_or_none(beyond)}
    for (low, high), intensities in ground.items():
        values = np.concatenate(intensities) if intensities else np.zeros(0)
        echoes[f'ground intensity, {low}-{high} m'] = float(np.median(values)) if len(values) else None
    return echoes


def radar_points_of(path: Path) -> int:
    """Number of points a radar file declares in its header."""
    with path.open('rb') as file:
        for line in file:
            if line.startswith(b'POINTS'):
                return int(line.split()[1])
    raise ValueError(f'{path}: found no POINTS line, expected a PCD header')


def image_light(path: Path) -> tuple[float, float]:
    """Mean and standard deviation of an image's grey values, 0 to 1."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError(f'{path}: cannot be decoded, expected an image')
    return float(grey.mean() / 255), float(grey.std() / 255)


def dataset_statistics(root: Path | str, version: str, max_images: int = 240) -> dict[str, Any]:
    """All statistics of one dataset.

    Args:
        root: data root that holds `version`, `samples` and so on.
        version: table folder.
        max_images: images read for the brightness, and scans for the echoes, evenly spread.

    Returns:
        Plain numbers, lists and dictionaries, None where there is nothing to measure.
    """
    dataset = Dataset(root, version)
    boxes, frames = box_statistics(dataset), len(dataset.ego_xy_of_samples())
    images, scans, radar_files = (dataset.key_files(prefix) for prefix in ('CAM', 'LIDAR', 'RADAR'))

    # every file of the small kinds, some of the large ones
    light = [image_light(path) for path in images[::max(1, len(images) // max_images)]]
    echoes = lidar_echoes(scans[::max(1, len(scans) // max_images)])
    return {
        'frames': frames,
        'lidar_points_per_frame': mean_or_none(lidar_points_per_frame(scans)),
        'lidar': echoes,
        'radar_points_per_radar': mean_or_none([radar_points_of(path) for path in radar_files]),
        'boxes_per_frame': len(boxes.class_M) / max(frames, 1),
        'image_brightness': mean_or_none([mean for mean, _ in light]),
        'image_contrast': mean_or_none([deviation for _, deviation in light]),
        'classes': {name: class_statistics(boxes, name, frames) for name in DETECTION_CLASSES}}


def table_lines(statistics: dict[str, dict[str, Any]]) -> list[str]:
    """The statistics of several datasets side by side as text.

    Args:
        statistics: what `dataset_statistics` returned, by the name to print.
    """
    rows: dict[str, list[float | None]] = defaultdict(list)
    for of_dataset in statistics.values():
        for label, value in _labelled(of_dataset):
            rows[label].append(value)

    width = max(len(label) for label in rows)
    header = ' ' * width + ''.join(f'{name:>14}' for name in statistics)
    return [header] + [f'{label:<{width}}' + ''.join(f'{_text(value):>14}' for value in values)
                       for label, values in rows.items()]


def _labelled(statistics: dict[str, Any]) -> Iterable[tuple[str, float | None]]:
    """The numbers of one dataset with the labels to print."""
    for key in ('frames', 'lidar_points_per_frame', 'radar_points_per_radar', 'boxes_per_frame',
                'image_brightness', 'image_contrast'):
        yield key, statistics[key]
    for label, value in statistics['lidar'].items():
        yield f'LiDAR: {label}', value
    for name, of_class in statistics['classes'].items():
        yield f'{name}: boxes per frame', of_class['boxes_per_frame']
        for axis, size in zip(('length', 'width', 'height'), of_class['size_lwh_m'], strict=True):
            yield f'{name}: {axis}, m', size
        yield f'{name}: share that moves', of_class['moving_share']
        yield f'{name}: speed of those, m/s', of_class['moving_speed_m_per_s']
        for distance, points in of_class['lidar_points_per_box'].items():
            yield f'{name}: LiDAR points per box, {distance}', points


def _text(value: float | None) -> str:
    if value is None:
        return '-'
    return f'{value:.0f}' if abs(value) >= 1000 or value == int(value) else f'{value:.2f}'
