"""Ranges, limits, switched-off sensors and boxes without points."""
from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import Annotations, Sample
from perception.datasets.reading.collate import collate
from perception.datasets.transforms.image import Compose, sample_rng
from perception.datasets.transforms.sensor import (
    FilterBoxesWithoutPoints,
    PointShuffle,
    RangeFilter,
    SensorDropout,
    in_range,
    keep_sensors,
)
from perception.registry import TRANSFORMS

RNG = sample_rng(0, 0, 0)
Whole = tuple[Sample, Annotations]


def test_low_borders_are_in_and_high_borders_out() -> None:
    points = np.array([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 1], [-0.1, 0.5, 0.5]])
    assert in_range(points, (0, 0, 0, 1, 1, 1)).tolist() == [True, False, False, False]
    assert in_range(points[:, :2], (0, 0, 0, 1, 1, 1)).tolist() == [True, False, True, False]


def test_range_filter_keeps_what_is_inside(pair: Whole) -> None:
    sample, labels = RangeFilter((-20, -10, -1, 20, 10, 2), (0, -20, -5, 30, 20, 5))(*pair, RNG)
    points = sample.lidar.points_P6
    assert 0 < len(points) < len(pair[0].lidar.points_P6)
    assert (np.abs(points[:, 0]) <= 20).all()
    assert (np.abs(points[:, 1]) <= 10).all()
    assert (points[:, 2] < 2).all()
    assert 0 < len(sample.radar.points_P8) < 25 and sample.radar.present_R.all()
    assert labels.boxes.instance_tokens == ('a', 'c') and labels.boxes.labels_M.tolist() == [0, 5]
    np.testing.assert_array_equal(labels.boxes.num_lidar_points_M, [40, 3])


def test_ranges_of_points_and_boxes_are_independent(pair: Whole) -> None:
    sample, labels = RangeFilter(points_m=(0, 0, 0, 1, 1, 1))(*pair, RNG)
    assert labels is pair[1] and len(sample.lidar.points_P6) < 10
    sample, labels = RangeFilter(boxes_m=(0, 0, 0, 1, 1, 1))(*pair, RNG)
    assert sample is pair[0] and len(labels.boxes.labels_M) == 0 and labels.boxes.boxes_M9.shape == (0, 9)


@pytest.mark.parametrize('bad', [(0, 0, 0, 1, 1), (1, 0, 0, 1, 1, 1)])
def test_bad_ranges(bad: tuple) -> None:
    with pytest.raises(ValueError, match='points_m: expected'):
        RangeFilter(points_m=bad)


def test_shuffle_keeps_every_point_once(pair: Whole) -> None:
    sample, labels = PointShuffle()(*pair, sample_rng(0, 0, 1))
    before, after = pair[0].lidar.points_P6, sample.lidar.points_P6
    assert labels is pair[1] and not np.array_equal(before, after)
    np.testing.assert_array_equal(before[np.lexsort(before.T)], after[np.lexsort(after.T)])


def test_limit_takes_points_of_the_cloud(pair: Whole) -> None:
    sample, _ = PointShuffle(limit=7)(*pair, sample_rng(0, 0, 1))
    known = {row.tobytes() for row in pair[0].lidar.points_P6}
    assert len(sample.lidar.points_P6) == 7 and all(row.tobytes() in known for row in sample.lidar.points_P6)
    assert len(PointShuffle(limit=10**6)(*pair, RNG)[0].lidar.points_P6) == len(pair[0].lidar.points_P6)


def test_bad_limit() -> None:
    with pytest.raises(ValueError, match='limit'):
        PointShuffle(limit=0)


def test_boxes_without_points_go(pair: Whole) -> None:
    _, labels = FilterBoxesWithoutPoints()(*pair, RNG)
    assert labels.boxes.instance_tokens == ('a', 'c')
    _, labels = FilterBoxesWithoutPoints(minimum=5)(*pair, RNG)
    assert labels.boxes.instance_tokens == ('a',)


def test_a_radar_point_is_a_point(pair: Whole) -> None:
    boxes = replace(
        pair[1].boxes, num_lidar_points_M=np.zeros(3, int), num_radar_points_M=np.array([0, 1, 0])
    )
    _, labels = FilterBoxesWithoutPoints()(pair[0], replace(pair[1], boxes=boxes), RNG)
    assert labels.boxes.instance_tokens == ('b',)


def test_nothing_to_filter(pair: Whole) -> None:
    bare = Sample(pair[0].frame)
    for transform in (
        RangeFilter((0, 0, 0, 1, 1, 1), (0, 0, 0, 1, 1, 1)), PointShuffle(3), FilterBoxesWithoutPoints()):
        assert transform(bare, None, RNG) == (bare, None)
        assert transform(bare, Annotations('token'), RNG)[1] == Annotations('token')


def test_switched_modality_by_its_probabilities(pair: Whole) -> None:
    bare = replace(pair[0], radar=None)
    transform = SensorDropout({'camera': 0.25, 'lidar': 0.25, 'camera+lidar': 0.5})
    seen = Counter()
    for index in range(800):
        sample, labels = transform(bare, None, sample_rng(0, 0, index))
        seen['+'.join(name for name, there in sample.present().items() if there)] += 1
    assert set(seen) == {'camera', 'lidar', 'camera+lidar'}
    assert abs(seen['camera'] - 200) < 45 and abs(seen['lidar'] - 200) < 45


def test_what_a_lost_sensor_looks_like(pair: Whole) -> None:
    sample = keep_sensors(pair[0], {'lidar'})
    assert sample.camera.images_NHW3.sum() == 0 and not sample.camera.present_N.any()
    np.testing.assert_array_equal(sample.camera.K_N33, pair[0].camera.K_N33)
    assert sample.radar.points_P8.shape == (0, 8) and not sample.radar.present_R.any()
    assert sample.lidar is pair[0].lidar and keep_sensors(pair[0], {'camera'}).lidar is None


def test_the_batch_knows_what_was_lost(pair: Whole) -> None:
    one_sensor_each = [(keep_sensors(pair[0], {name}), None) for name in ('camera', 'lidar')]
    batch = collate(one_sensor_each)['inputs']
    found = batch.present()
    assert found['camera'].tolist() == [True, False] and found['lidar'].tolist() == [False, True]
    assert found['radar'].tolist() == [False, False]


def test_one_draw_serves_a_batch(pair: Whole) -> None:
    """By batch, all samples keep what the first one drew; a sample that has nothing of it stays whole."""
    by_batch = SensorDropout({'camera': 0.5, 'lidar': 0.5}, draw_by='batch')
    by_sample = SensorDropout({'camera': 0.5, 'lidar': 0.5})
    blind = replace(pair[0], camera=None, radar=None)

    def present(transform: SensorDropout, first: int) -> dict[str, list[bool]]:
        pairs = [transform(*pair, sample_rng(0, 0, first + i)) for i in range(3)]
        pairs.append(transform(blind, None, sample_rng(0, 0, 0)))
        return {name: there.tolist() for name, there in collate(pairs)['inputs'].present().items()}

    seen = Counter()
    for first in range(40):
        found = present(by_batch, first)
        assert found['lidar'] == [not found['camera'][0]] * 3 + [True]
        assert found['camera'] == [found['camera'][0]] * 3 + [False] and not any(found['radar'])
        seen[found['camera'][0]] += 1
    assert min(seen.values()) > 10
    assert any(len(set(present(by_sample, first)['lidar'][:3])) == 2 for first in range(5))


def test_one_draw_serves_a_drive(pair: Whole) -> None:
    """By drive, all frames of a run lose the same, whatever is drawn for single frames."""
    keep = {'camera': 0.5, 'lidar': 0.5}

    def kept(draw_by: str, drive: int) -> list[bool]:
        pipeline = Compose([SensorDropout(keep, draw_by=draw_by)])
        frames = [pipeline(*pair, sample_rng(0, drive, i), (0, drive)) for i in range(6)]
        return [sample.lidar is not None for sample, _ in frames]

    by_drive = [set(kept('drive', drive)) for drive in range(30)]
    assert all(len(found) == 1 for found in by_drive) and len(set(map(tuple, by_drive))) == 2
    assert sum(len(set(kept('sample', drive))) == 2 for drive in range(30)) > 20


def test_single_cameras_and_radars(pair: Whole) -> None:
    transform = SensorDropout(drop_camera=0.5, drop_radar=0.4)
    cameras, radars = [], []
    for index in range(300):
        sample, _ = transform(*pair, sample_rng(1, 0, index))
        cameras.append(sample.camera.present_N)
        radars.append(sample.radar.present_R)
        here = np.unique(sample.radar.points_P8[:, 7].astype(int))
        # every radar of the sample has points
        assert np.array_equal(here, np.flatnonzero(sample.radar.present_R))
        np.testing.assert_array_equal(sample.camera.images_NHW3.any((1, 2, 3)), sample.camera.present_N)
    assert abs(np.mean(cameras) - 0.5) < 0.07 and abs(np.mean(radars) - 0.6) < 0.06


def test_something_is_always_left(pair: Whole) -> None:
    only_camera = replace(pair[0], lidar=None, radar=None)
    for transform in (SensorDropout({'lidar': 1.0}), SensorDropout(drop_camera=1.0)):
        sample, _ = transform(only_camera, None, sample_rng(0, 0, 0))
        assert sample.present()['camera'] and sample.camera.present_N.all()


def test_default_drops_nothing(pair: Whole) -> None:
    sample, labels = SensorDropout()(*pair, sample_rng(0, 0, 0))
    assert sample.present() == {'camera': True, 'lidar': True, 'radar': True} and labels is pair[1]
    assert sample.camera is pair[0].camera and sample.radar is pair[0].radar


@pytest.mark.parametrize(('options', 'words'), [
    ({'keep': {'sonar': 1.0}}, "unknown sensor 'sonar'"), ({'keep': {'camera': 0.5}}, 'sum to 1'),
    ({'keep': {'camera': 1.5, 'lidar': -0.5}}, 'sum to 1'), ({'drop_camera': 1.1}, 'drop_camera'),
    ({'draw_by': 'epoch'}, 'draw_by')])
def test_bad_dropout(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SensorDropout(**options)


@pytest.mark.parametrize('name', ['RangeFilter', 'PointShuffle', 'SensorDropout', 'FilterBoxesWithoutPoints'])
def test_registered(name: str) -> None:
    assert callable(TRANSFORMS.build(dict(type=name)))
