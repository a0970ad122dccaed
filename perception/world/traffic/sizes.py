"""Statistics of real boxes (sizes, speeds, counts) that the traffic draws from, and how they are fitted."""
from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.reading import read_json

STATISTICS_PATH = Path(__file__).with_name('statistics.json')
DISTANCE_BINS_M = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
MOVING_M_PER_S = 0.5


def _read_table(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f'{name}.json'
    if not path.is_file():
        raise FileNotFoundError(f'{path}: table is missing; expected a nuScenes version folder')
    return read_json(path)


def _mean_std(values: np.ndarray) -> dict[str, Any]:
    return {
        'mean': np.round(np.mean(values, axis=0), 3).tolist(),
        'std': np.round(np.std(values, axis=0), 3).tolist()}


def _ego_places(folder: Path) -> dict[str, np.ndarray]:
    """Global ego position per sample (of its LiDAR key frame)."""
    poses = {row['token']: np.array(row['translation']) for row in _read_table(folder, 'ego_pose')}
    return {row['sample_token']: poses[row['ego_pose_token']] for row in _read_table(folder, 'sample_data')
            if row['is_key_frame'] and 'LIDAR_TOP' in row['filename']}


def _speeds(rows: list[dict[str, Any]], time_s: dict[str, float]) -> dict[str, float]:
    """Speed per annotation token from the step to its successor."""
    by_token = {row['token']: row for row in rows}
    speeds = {}
    for row in rows:
        follower = by_token.get(row['next'])
        if follower is not None:
            step_s = time_s[follower['sample_token']] - time_s[row['sample_token']]
            shift = np.subtract(follower['translation'], row['translation'])[:2]
            speeds[row['token']] = float(np.linalg.norm(shift) / step_s)
    return speeds


def fit_statistics(version_folder: Path | str) -> dict[str, Any]:
    """Sizes, speeds and counts of the boxes in a nuScenes version folder.

    Args:
        version_folder: folder with the tables, e.g. `.../v1.0-mini`.

    Returns:
        `categories`: per category the number of boxes and objects (`things`), size (length, width, height;
        mean and standard deviation over objects), the fraction of moving boxes and their speed in m/s (mean,
        std, 95th percentile); `boxes_per_frame`: mean and std within 60 m; `boxes_per_frame_by_distance` over
        `DISTANCE_BINS_M`; `frames`.

    Raises:
        FileNotFoundError: a table is missing.
    """
    folder = Path(version_folder)
    boxes = _read_table(folder, 'sample_annotation')
    names = {row['token']: row['name'] for row in _read_table(folder, 'category')}
    category_of = {row['token']: names[row['category_token']] for row in _read_table(folder, 'instance')}
    time_s = {row['token']: row['timestamp'] * 1e-6 for row in _read_table(folder, 'sample')}

    by_category: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for box in boxes:
        by_category[category_of[box['instance_token']]].append(box)
    speeds = _speeds(boxes, time_s)
    counts = _counts_by_distance(boxes, _ego_places(folder))
    return {'frames': len(counts), 'distance_bins_m': list(DISTANCE_BINS_M),
            'boxes_per_frame': _mean_std(counts.sum(axis=1)),
            'boxes_per_frame_by_distance': np.round(counts.mean(axis=0), 2).tolist(),
            'categories': {name: _category_statistics(by_category[name], speeds)
                           for name in sorted(by_category)}}


def _counts_by_distance(boxes: list[dict[str, Any]], ego: dict[str, np.ndarray]) -> np.ndarray:
    """(frames, bins) number of boxes of each frame by distance from the ego."""
    per_frame = {token: np.zeros(len(DISTANCE_BINS_M) - 1) for token in ego}
    for box in boxes:
        if box['sample_token'] in ego:
            offset = np.subtract(box['translation'], ego[box['sample_token']])[:2]
            per_frame[box['sample_token']] += np.histogram(np.linalg.norm(offset), DISTANCE_BINS_M)[0]
    return np.array(list(per_frame.values()))


def _category_statistics(boxes: list[dict[str, Any]], speeds: dict[str, float]) -> dict[str, Any]:
    """Statistics of the boxes of one category; an object's size is that of its last box."""
    sizes = {}
    for box in boxes:
        width, length, height = box['size']
        sizes[box['instance_token']] = [length, width, height]

    speed = np.array([speeds[box['token']] for box in boxes if box['token'] in speeds])
    moving = speed[speed > MOVING_M_PER_S]
    statistics = {'boxes': len(boxes), 'things': len(sizes),
                  'size_lwh_m': _mean_std(np.array(list(sizes.values()))),
                  'moving_share': round(float(len(moving) / max(len(speed), 1)), 3)}
    if len(moving) >= 5:
        p95 = round(float(np.percentile(moving, 95)), 3)
        statistics['speed_m_per_s'] = {**_mean_std(moving), 'p95': p95}
    return statistics


@lru_cache(maxsize=1)
def load_statistics() -> dict[str, Any]:
    """The committed statistics: `fitted` from real boxes, and `assumed` where there were too few of them.

    Raises:
        FileNotFoundError: `perception/world/traffic/statistics.json` is missing.
    """
    if not STATISTICS_PATH.is_file():
        raise FileNotFoundError(f'{STATISTICS_PATH}: the statistics of the world are missing')
    return read_json(STATISTICS_PATH)
