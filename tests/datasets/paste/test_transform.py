"""PasteObjects in a data set: what comes into a frame, when, and what it refuses."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from perception.core.contracts import Annotations, BoxLabels, Frame, LidarPoints, RadarPoints, Sample
from perception.core.selection import join_draw
from perception.datasets.paste.database import PasteDatabase, write_paste_index
from perception.datasets.paste.objects import StoredObject, write_objects
from perception.datasets.paste.transform import Filling, PasteObjects
from perception.datasets.reading.sampler import SeededSampler
from perception.datasets.reading.wrappers import RepeatDataset
from tests.datasets.paste.conftest import dataset_of

MANY = dict(car=60, pedestrian=60, truck=40, motorcycle=30, barrier=30, traffic_cone=40, bicycle=30)
LIDAR = np.array([[0, 1, 0, 1.0], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]])


def stage(folder, **options: object) -> list[dict]:
    return [dict(type='PasteObjects', database=folder, **{'min_points': 3, 'counts': MANY, **options})]


# -------------------------------------------------------------------- by hand

BOX = np.array([10.0, 5, 0.7, 4, 2, 1.6, 0.2, 3, 1])


def stored(**changes: object) -> StoredObject:
    rng = np.random.default_rng(1)
    points = np.zeros((20, 6), np.float32)
    points[:, :3] = rng.uniform(-0.5, 0.5, (20, 3)) * [1.5, 1.5, 1.2]
    points[:, 3], points[:, 4] = 30, np.arange(20)
    points[10:, 5] = 0.05
    radar = np.zeros((1, 8), np.float32)
    radar[0, 3:] = [3, 1, 7, 0, 0]
    values = dict(
        box_9=BOX, category='vehicle.car', token='t', instance='i', sample='s', attribute=5, visibility=4,
        num_lidar_points=10, num_radar_points=1, ground_m=0.0, points_P6=points, radar_R8=radar)
    return StoredObject(**{**values, **changes})


@pytest.fixture
def database(tmp_path) -> PasteDatabase:
    """One car that stood at (10, 5), the ground around it at 0 m."""
    write_objects(tmp_path, 'scene', [stored()], '')
    write_paste_index(tmp_path, {
        'root': '/', 'facts': {'categories': 'nuscenes'}, 'cameras': [], 'min_points': 1, 'classes': {},
        'scenes': {'scene': 1}, 'unfinished': []})
    return PasteDatabase(tmp_path)


def frame(ground_m: float = 0.2, more: tuple = ()) -> tuple[Sample, Annotations]:
    """A road at a height, one box behind the place of the car, and a wall behind it."""
    x, y = np.meshgrid(np.arange(4, 30, 0.25), np.arange(-4, 16, 0.25))
    road = np.stack([x, y, np.full(x.shape, ground_m)], -1).reshape(-1, 3)
    points = np.zeros((len(road) + len(more), 6), np.float32)
    points[:, :3] = np.concatenate([road, np.array(more).reshape(-1, 3)])
    points[:, 4] = 40   # a ring that no point of the car has
    points[len(road):, 4] = 5
    radar = np.zeros((2, 8), np.float32)
    radar[:, :2] = [[10, 5], [20, 5]]
    none = np.zeros(0, np.int64)
    boxes = BoxLabels(np.zeros((0, 9), np.float32), none, none, none, none, none)
    sample = Sample(
        Frame('s0', 0, np.eye(4), ego_T_lidar=LIDAR), lidar=LidarPoints(points),
        radar=RadarPoints(radar, np.ones(5, bool)))
    return sample, Annotations('s0', boxes)


def test_an_object_stands_on_the_road_that_is_there(database) -> None:
    sample, labels = frame()
    filling = Filling(database, sample, labels.boxes, 5)
    assert filling.paste(0) and not filling.paste(0)     # the second would stand in the first
    sample, labels = filling.result(labels)

    expected = BOX + [0, 0, 0.2, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(labels.boxes.boxes_M9, [expected], atol=1e-5)
    assert labels.boxes.num_lidar_points_M.tolist() == [10] and labels.boxes.labels_M.tolist() == [0]
    assert labels.boxes.instance_tokens == ('pasted.0.i',)

    # its points, raised by the road; the road's under it are gone
    points = sample.lidar.points_P6
    np.testing.assert_allclose(
        points[-20:, :3], stored().points_P6[:, :3] + expected[:3], atol=1e-3)
    under = (np.abs(points[:-20, :2] - [10, 5]) < [1.5, 0.5]).all(1)
    assert not under.any() or points[:-20][under, 2].max() < 0.09
    assert sample.radar.points_P8[:, 0].tolist() == [20, 10]      # the target on the road is replaced
    assert sample.radar.points_P8[1, 3:6].tolist() == [3, 1, 7]


@pytest.mark.parametrize('ground_m', [0.6, -0.6])
def test_a_place_of_another_height_is_none(database, ground_m: float) -> None:
    sample, labels = frame(ground_m)
    filling = Filling(database, sample, labels.boxes, 5)
    assert not filling.paste(0)
    unchanged, same = filling.result(labels)
    assert unchanged is sample and same is labels


def test_a_place_that_is_taken_is_none(database) -> None:
    sample, labels = frame()
    car = np.array([[12.0, 5, 0.7, 4, 2, 1.6, 0, 0, 0]], np.float32)
    one = np.zeros(1, np.int64)
    boxes = BoxLabels(car, one, one, one, one, one, ('there',))
    assert not Filling(database, sample, boxes, 5).paste(0)


def test_points_of_objects_behind_are_counted_anew(database) -> None:
    """Of a box with ten points at 20 m, those that the car hides are lost; a wall of them is too much."""
    car = stored().points_P6[:1, :3] + BOX[:3] + [0, 0, 0.2]
    seen_from = np.array([0.0 + 1.0, 0, 1.8])
    behind = seen_from + (car - seen_from) * 2.2
    sample, labels = frame(more=tuple(map(tuple, behind)))
    points = sample.lidar.points_P6.copy()
    points[-1, 4] = stored().points_P6[0, 4]
    extra = np.tile(points[-1], (4, 1))
    extra[:, 4] = 50
    sample = replace(sample, lidar=LidarPoints(np.concatenate([points, extra])))

    one = np.ones(1, np.int64)
    far = np.array([[*behind[0], 0.5, 0.5, 0.5, 0, 0, 0]], np.float32)
    boxes = BoxLabels(far, one, one, 5 * one, one, one, ('far',))
    filling = Filling(database, sample, boxes, 5)
    assert filling.paste(0)
    _, labels = filling.result(replace(labels, boxes=boxes))
    before = int(labels.boxes.num_lidar_points_M[0])
    assert before == 4 and labels.boxes.num_lidar_points_M[1] == 10

    sample = replace(sample, lidar=LidarPoints(sample.lidar.points_P6[:-4]))
    assert not Filling(database, sample, boxes, 5).paste(0)


def test_what_was_hidden_before_counts_with_what_is_hidden_now(database) -> None:
    """Three of five points went with an object before: one more is too many."""
    more = tuple((20.0, 5.0, 0.4 + 0.1 * number) for number in range(5))
    sample, labels = frame(more=more)
    one = np.ones(1, np.int64)
    far = np.array([[20, 5, 0.7, 1, 1, 0.9, 0, 0, 0]], np.float32)
    filling = Filling(database, sample, BoxLabels(far, one, one, 5 * one, one, one, ('far',)), 5)

    stay = np.ones(len(sample.lidar.points_P6), bool)
    stay[-3:] = False
    assert not filling._hides_others(stay)
    filling.scan.add(np.zeros((0, 6), np.float32), stay)
    filling._all_M = np.append(filling._all_M, 0)

    stay = np.ones(len(filling.scan.points_P6), bool)
    assert not filling._hides_others(stay)
    stay[-1] = False
    assert filling._hides_others(stay)


def test_too_few_points_are_not_pasted(database) -> None:
    sample, labels = frame()
    assert not Filling(database, sample, labels.boxes, 21).paste(0)


# -------------------------------------------------------------------- in a data set

def test_frames_are_filled_up_and_their_own_labels_stay(tiny_world, tiny_database) -> None:
    dataset = dataset_of(tiny_world, pipeline=stage(tiny_database))
    pasted = pictured = 0
    for index in range(len(dataset)):
        before, labels = dataset.load(index)
        sample, after = dataset[index]
        own = len(labels.boxes.labels_M)
        np.testing.assert_array_equal(after.boxes.boxes_M9[:own], labels.boxes.boxes_M9)
        assert after.boxes.instance_tokens[:own] == labels.boxes.instance_tokens
        assert len(set(after.boxes.instance_tokens)) == len(after.boxes.instance_tokens)
        assert (after.boxes.num_lidar_points_M[own:] >= 0).all()

        added = len(after.boxes.labels_M) - own
        pasted += added
        changed = (sample.camera.images_NHW3 != before.camera.images_NHW3).any()
        pictured += changed
        assert added or not changed  # not everything that is pasted stands before a camera
        assert (after.occupancy.semantics_XYZ == 255).sum() >= (labels.occupancy.semantics_XYZ == 255).sum()
        assert after.map_layers is not None and len(after.lanes.points) == len(labels.lanes.points)
    assert pasted >= 3 and pictured


def test_workers_and_this_process_paste_the_same(tiny_world, tiny_database) -> None:
    def draws(workers: int) -> list[tuple[str, bytes, bytes]]:
        dataset = dataset_of(tiny_world, sensors=('lidar',), pipeline=stage(tiny_database))
        sampler = SeededSampler(dataset, seed=3)
        loader = DataLoader(
            dataset, batch_size=None, sampler=sampler, num_workers=workers, multiprocessing_context=(
                'fork' if workers else None))
        return [
            (s.frame.token, s.lidar.points_P6.tobytes(), a.boxes.boxes_M9.tobytes()) for s, a in loader]

    assert draws(0) == draws(2)
    dataset = dataset_of(tiny_world, sensors=('lidar',), pipeline=stage(tiny_database))
    one, other = (
        [dataset[join_draw(draw, index, len(dataset))][1].boxes.boxes_M9.tobytes()
         for index in range(len(dataset))] for draw in (0, 1))
    assert one != other


def test_it_is_off_from_a_pass_on_also_in_workers_that_stay(tiny_world, tiny_database) -> None:
    dataset = dataset_of(tiny_world, sensors=('lidar',), pipeline=stage(tiny_database))
    whole = RepeatDataset(dataset, 1)
    sampler = SeededSampler(whole, shuffle=False, seed=0)
    loader = DataLoader(
        whole, batch_size=None, sampler=sampler, num_workers=1, persistent_workers=True,
        multiprocessing_context='fork')
    dataset.pipeline.transforms[0].stop_from(1)
    own = [len(dataset.load(i)[1].boxes.labels_M) for i in range(len(dataset))]

    more = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        more.append(sum(len(a.boxes.labels_M) for _, a in loader) - sum(own))
    assert more[0] > 0 and more[1] == 0 and more[2] == more[0]


@pytest.mark.parametrize(('options', 'message'), [
    (dict(split='val', test_mode=True), 'test_mode: found True, expected a dataset of a training'),
    (dict(tasks=('occupancy',)), 'tasks: found occupancy, expected detection among them'),
    (dict(reading=dict(clip_frames=2)), 'found reading.clip_frames 2, expected single frames')])
def test_data_sets_that_it_does_not_suit_are_refused(options, message, tiny_world, tiny_database) -> None:
    with pytest.raises(ValueError, match=message):
        dataset_of(tiny_world, pipeline=stage(tiny_database), **options)


def test_drives_that_are_followed_are_refused(tiny_world, tiny_database) -> None:
    dataset = dataset_of(tiny_world, pipeline=stage(tiny_database))
    with pytest.raises(ValueError, match='found a StreamSampler, expected single frames'):
        dataset.follow_drives()


def test_it_stands_before_the_turn_of_the_ground(tiny_world, tiny_database) -> None:
    turn = dict(type='RandomFlipRotateScale')
    dataset_of(tiny_world, pipeline=[*stage(tiny_database), turn])
    with pytest.raises(ValueError, match='found PasteObjects behind RandomFlipRotateScale'):
        dataset_of(tiny_world, pipeline=[turn, *stage(tiny_database)])


@pytest.mark.parametrize(('options', 'message'), [
    (dict(counts={}), 'counts: found none, expected'),
    (dict(counts=dict(car=-1)), 'counts.car: found -1'),
    (dict(counts=dict(lorry=1)), "counts: found 'lorry', expected some of car, truck"),
    (dict(probability=2), 'expected a probability from 0 to 1'),
    (dict(database='none'), 'none/index.json: found no such file')])
def test_options_that_make_no_sense_are_refused(options, message, tiny_world, tiny_database) -> None:
    with pytest.raises(ValueError, match=message):
        dataset_of(tiny_world, pipeline=stage(**{'folder': tiny_database} | options)
                   if 'database' not in options else [dict(type='PasteObjects', **options)])


def test_labels_of_own_tasks_are_refused(database) -> None:
    sample, labels = frame()
    paste = PasteObjects('x')
    paste._database = database
    with pytest.raises(ValueError, match='s0: found labels of parking'):
        paste(sample, replace(labels, extra=dict(parking=1)), np.random.default_rng(0))
