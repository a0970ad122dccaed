"""Statistics of datasets side by side."""

import json
from pathlib import Path

import numpy as np
import pytest

from perception.world.statistics import (
    BoxStatistics,
    Dataset,
    box_speed,
    class_statistics,
    dataset_statistics,
    lidar_echoes,
    table_lines,
)
from tests.command import call
from tests.world.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]


def test_class_statistics_by_hand():
    boxes = BoxStatistics(np.array(['car', 'car', 'bus']), np.array([[4.0, 2, 1.5], [5, 2, 1.7], [12, 3, 3]]),
                          np.array([5.0, 15.0, 5.0]), np.array([0.0, 4.0, 8.0]),
                          np.array([300.0, 40.0, 900.0]))
    statistics = class_statistics(boxes, 'car', frames=2)
    assert statistics['boxes_per_frame'] == 1.0 and statistics['size_lwh_m'] == pytest.approx([4.5, 2.0, 1.6])
    assert (statistics['moving_share'], statistics['moving_speed_m_per_s']) == (0.5, 4.0)
    assert statistics['lidar_points_per_box'] == {
        '0-10 m': 300.0, '10-20 m': 40.0, '20-30 m': None, '30-50 m': None}
    assert class_statistics(boxes, 'barrier', frames=2)['size_lwh_m'] == [None, None, None]


def test_statistics_of_real_frames_are_those_known_of_them(real_frames):
    statistics = dataset_statistics(real_frames, 'v1.0-mini', max_images=6)
    assert statistics['frames'] == 82
    assert 34_000 < statistics['lidar_points_per_frame'] < 35_500
    assert statistics['radar_points_per_radar'] == 74
    echoes = statistics['lidar']  # a third of the points in these files are beams without an echo
    assert 15_000 < echoes['beyond 2 m'] < 0.8 * statistics['lidar_points_per_frame']
    assert 5 <= echoes['ground intensity, 3-10 m'] <= 9 and echoes['ground intensity, 10-20 m'] is not None
    assert statistics['classes']['car']['size_lwh_m'] == pytest.approx([4.53, 1.81, 1.67], abs=0.05)


def test_echoes_by_hand(tmp_path: Path):
    points = np.zeros((5, 5), np.float32)
    points[:, 0], points[:, 2] = (0.0, 5.0, 5.0, 15.0, 15.0), (0.0, -1.8, -1.8, -1.8, 1.0)
    points[:, 3] = (1.0, 6.0, 10.0, 4.0, 90.0)
    points.tofile(tmp_path / 'scan.bin')
    assert lidar_echoes([tmp_path / 'scan.bin']) == {'beyond 2 m': 4.0, 'ground intensity, 3-10 m': 8.0,
                                                     'ground intensity, 10-20 m': 4.0}
    assert set(lidar_echoes([]).values()) == {None}


def test_speeds_are_the_devkits(tiny_nusc, tiny_world):
    dataset = Dataset(tiny_world, TINY.version)
    for annotation in dataset.tables['sample_annotation']:
        expected = np.linalg.norm(tiny_nusc.box_velocity(annotation['token'])[:2])
        assert box_speed(dataset, annotation) == pytest.approx(expected, nan_ok=True)


def test_the_command_prints_a_table_and_writes_json(tiny_world, tmp_path):
    out = tmp_path / 'statistics.json'
    done = call('world-statistics', f'{tiny_world}:{TINY.version}', '--out', out)
    assert done.status == 0, done.err
    statistics = json.loads(out.read_text())[tiny_world.name]
    assert statistics['frames'] == 6 and 0.02 < statistics['image_brightness'] < 0.9
    assert f'{statistics["lidar_points_per_frame"]:.0f}' in done.out
    assert len(table_lines({'a': statistics, 'b': statistics})) == len(done.out.splitlines())


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='category.json: table is missing'):
        dataset_statistics(tmp_path, 'v1.0-trainval')
