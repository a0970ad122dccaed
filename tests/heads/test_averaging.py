"""Raw outputs of a mirrored world come back; outputs of several forwards are joined."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, LanePolylines, MapLayers, OccupancyLabels
from perception.core.grid import BEVGrid
from perception.core.protocols import TASKS
from perception.datasets.transforms.bev import bev_transform, move_annotations
from perception.heads import detection, lanes, map_segmentation, occupancy
from perception.heads.averaging import Mirror, cells_behind, mean_log_softmax, mean_logits, mirror_map
from perception.heads.base import TaskHead
from perception.heads.detection.averaging import mean_heading
from perception.heads.detection.targets import as_raw as boxes_as_raw
from perception.heads.lanes.averaging import average_lines
from perception.heads.lanes.decode import LaneDecoding, decode_lanes
from perception.heads.lanes.targets import as_raw as lanes_as_raw
from perception.heads.map_segmentation.targets import as_raw as map_as_raw
from perception.heads.occupancy.targets import as_raw as voxels_as_raw
from perception.registry import MODELS

# one metre ahead of the car, as the published windows around the LiDAR lie
AHEAD = dict(type='BEVGrid', x_range_m=(-24.0, 26.0), y_range_m=(-25.0, 25.0), cell_m=0.5)
TRUNK = dict(type='BEVGrid', x_range_m=(-25.6, 25.6), y_range_m=(-25.6, 25.6), cell_m=0.8)
CONFIGS = {
    'detection': dict(
        type='CenterHead', shared_channels=4, branches=dict(channels=4),
        groups=(('car', 'truck', 'bus', 'trailer', 'construction_vehicle'),
                ('pedestrian', 'motorcycle', 'bicycle', 'traffic_cone', 'barrier'))),
    'map_segmentation': dict(type='MapSegmentationHead', width=4, task_grid=AHEAD),
    'occupancy': dict(
        type='OccupancyHead', width=4, mask=None, task_grid=dict(
            type='BEVGrid', x_range_m=(-40.0, 40.0), y_range_m=(-40.0, 40.0), cell_m=1.6,
            z_range_m=(-1.0, 5.4), height_cell_m=1.6)),
    'lanes': dict(
        type='LaneHead', classes=('divider', 'ped_crossing', 'boundary', 'centerline'),
        features=dict(width=8, x_range_m=(-24.0, 26.0), y_range_m=(-15.0, 15.0)),
        decoder=dict(instances=6, points=8, layers=1, feedforward=8))}
AS_RAW = {
    'detection': lambda targets: boxes_as_raw(targets, 2), 'map_segmentation': map_as_raw,
    'occupancy': voxels_as_raw, 'lanes': lambda targets: lanes_as_raw(targets, 6)}
MIRRORS = [Mirror(True, False), Mirror(False, True), Mirror(True, True)]
assert detection and lanes and map_segmentation and occupancy  # registered


@pytest.fixture(scope='module')
def heads() -> dict[str, TaskHead]:
    return {
        task: MODELS.build(dict(CONFIGS[task], grid=TRUNK, in_channels=4)).eval() for task in TASKS}


@pytest.fixture(scope='module')
def street(make_boxes) -> Annotations:
    """Lopsided in both directions, and nothing beyond what mirrors cover."""
    boxes = make_boxes(
        [[10.3, -4.3, 0.9, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0], [-7.7, 12.1, 0.8, 0.7, 0.6, 1.8, -2.9, -1.0, 0.1]],
        [0, 5], [5, 2])
    road = np.array([[-20.0, -6.0], [15.0, -6.0], [15.0, 9.0], [-20.0, 9.0]])
    layers = MapLayers({'drivable_area': ((road, ()),)}, {}, 60.0)
    semantics = np.full((50, 50, 4), 17, np.uint8)
    semantics[8:12, 35:37, 3] = 4
    ones = np.ones_like(semantics)
    lines = LanePolylines(
        (np.array([[-10, 3], [8, 4], [20, 9]], np.float32), np.array([[18, -4], [-12, -6]], np.float32)),
        np.array([0, 3]), 60.0)
    return Annotations('street', boxes, layers, OccupancyLabels(semantics, ones, ones), lines)


def perfect(head: TaskHead, labels: Annotations) -> dict[str, torch.Tensor]:
    """What a perfect head answers."""
    return AS_RAW[head.task](head.targets([labels]))


@pytest.mark.parametrize('mirror', MIRRORS, ids=['x', 'y', 'both'])
@pytest.mark.parametrize('task', TASKS)
def test_outputs_of_a_mirrored_world_come_back(heads, street, task, mirror) -> None:
    """A perfect answer to the mirrored world is a perfect answer to the world."""
    head = heads[task]
    moved = move_annotations(bev_transform(mirror.flip_x, mirror.flip_y), street)
    found = head.mirror(perfect(head, moved), mirror)
    for name, expected in perfect(head, street).items():
        covered = ~found[name].isnan()
        assert covered.float().mean() > 0.95
        if name == 'box':
            covered &= expected != 0  # at objects: offsets count from the other side of an empty cell, too
        if name == 'points':
            covered[:, 2:] = False  # of instances without a line
        apart = (found[name][covered] - expected[covered]).abs() > 1e-5
        # outlines are drawn from corner to corner: a row of cells may lie on either side of an edge
        assert apart.float().mean() <= (0.012 if task == 'map_segmentation' else 0)


@pytest.mark.parametrize('task', TASKS)
def test_mirrored_twice_is_the_same(heads, task) -> None:
    head, mirror = heads[task], Mirror(True, True)
    raw = head(torch.rand(1, 4, 64, 64))
    twice = head.mirror(head.mirror(raw, mirror), mirror)
    for name, values in twice.items():
        inside = ~values.isnan()
        torch.testing.assert_close(values[inside], raw[name][inside], atol=1e-6, rtol=0)


@pytest.mark.parametrize('task', TASKS)
def test_the_mean_of_equal_forwards_is_one_of_them(heads, street, task) -> None:
    head = heads[task]
    raw = {name: values * 0.1 if name in ('logits', 'heatmap') else values
           for name, values in perfect(head, street).items()}
    one, three = head.decode(raw)[0], head.decode(head.average([raw] * 3))[0]
    for name, expected in vars(one).items():
        if isinstance(expected, np.ndarray) and len(expected):
            kept = slice(2) if task == 'lanes' else slice(None)  # behind them lie instances without a line
            np.testing.assert_allclose(
                getattr(three, name)[kept], expected[kept], atol=2e-3, rtol=2e-3, err_msg=name)


def test_a_window_ahead_of_the_car_keeps_its_cells() -> None:
    """Cells meet cells 2 m off; those that the mirrored window lacks are not covered."""
    grid = BEVGrid((-3.0, 5.0), (-2.0, 2.0), 1.0)
    values = torch.arange(8.0).expand(1, 1, 4, 8)
    found = mirror_map(values, grid, Mirror(True))[0, 0, 0]
    assert found[:6].tolist() == [5, 4, 3, 2, 1, 0] and found[6:].isnan().all()
    assert mirror_map(values, grid, Mirror(True, at_m=(1.0, 0.0)))[0, 0, 0].tolist() == list(range(7, -1, -1))

    far = mirror_map(values, BEVGrid((4.0, 12.0), (-2.0, 2.0), 1.0), Mirror(True))
    assert far.shape == values.shape and far.isnan().all()  # behind the car there is nothing of it

    assert cells_behind(BEVGrid((-3.0, 5.0), (-2.0, 2.0), 1.0), Mirror(True, True)) == (2, 0)
    assert cells_behind(BEVGrid((-3.2, 4.8), (-2.0, 2.0), 1.0), Mirror(True)) is None
    with pytest.raises(ValueError, match='a mirror at .* do not meet'):
        mirror_map(values, BEVGrid((-3.2, 4.8), (-2.0, 2.0), 1.0), Mirror(True))


def test_means_are_of_probabilities_and_leave_out_what_is_not_covered() -> None:
    logits = [torch.tensor([0.0, 300.0, -300.0, 2.0]), torch.tensor([2.0, 300.0, -300.0, math.nan])]
    found = mean_logits(logits)
    assert found[0].sigmoid().item() == pytest.approx((0.5 + 1 / (1 + math.exp(-2))) / 2)
    assert found.isfinite().all() and found[1] == 300 and found[2] == -300
    assert found[3].item() == pytest.approx(2, abs=1e-6)

    classes = mean_log_softmax([torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])], 1).softmax(1)
    assert classes[0, 0].item() == pytest.approx((0.5 + 0.75) / 2)


def test_headings_that_differ_by_half_a_turn_do_not_cancel() -> None:
    def heading(*degrees: float) -> list[torch.Tensor]:
        angles = [math.radians(d) for d in degrees]
        return [torch.tensor([math.sin(a), math.cos(a)]).view(1, 1, 2, 1, 1) for a in angles]

    def mean_degrees(*degrees: float) -> float:
        sin, cos = mean_heading(heading(*degrees)).flatten().tolist()
        return math.degrees(math.atan2(sin, cos))

    assert mean_degrees(10, 20) == pytest.approx(15, abs=1e-3)
    assert mean_degrees(170, -170) % 360 == pytest.approx(180, abs=1e-3)
    assert mean_degrees(10, 190, 10) == pytest.approx(10, abs=1e-3)  # the most
    assert mean_degrees(10, 190) == pytest.approx(10, abs=1e-3)  # the first


def test_a_head_that_says_nothing_is_not_averaged() -> None:
    from tests.helpers import SquareHead
    with pytest.raises(NotImplementedError, match=r'SquareHead \(map_segmentation\) does not say mirror'):
        SquareHead(4).mirror({}, Mirror(True))


# -------------------------------------------------------------------- lanes

GRID = BEVGrid((-10.0, 10.0), (-10.0, 10.0), 1.0)
CLASSES = ('divider', 'ped_crossing', 'centerline')
LINE = np.stack([np.linspace(-8, 8, 9), np.full(9, 2.0)], 1)
ANGLES = np.linspace(0, 2 * np.pi, 9)
RING = np.stack([3 * np.cos(ANGLES), 3 * np.sin(ANGLES)], 1)


def as_raw(*elements: tuple[np.ndarray, str, float]) -> dict[str, torch.Tensor]:
    """Points in metres, class and score of each instance."""
    logits = torch.full((1, len(elements), 3), -30.0)
    for n, (_, name, score) in enumerate(elements):
        logits[0, n, CLASSES.index(name)] = math.log(score / (1 - score))
    points = np.stack([points for points, _, _ in elements])
    return {'logits': logits, 'points': torch.from_numpy((points + 10) / 20)[None].float()}


def joined(*raws: dict[str, torch.Tensor], most: int = 2):
    """What is predicted from the average, with scores above nothing."""
    options = LaneDecoding(max_lanes=most, score_threshold=0.01)
    return decode_lanes(average_lines(raws, GRID, CLASSES, options), GRID, CLASSES, options)[0]


def test_a_line_from_either_end_is_one_line_at_the_mean() -> None:
    found = joined(as_raw((LINE, 'divider', 0.8)), as_raw((LINE[::-1] + [0, 0.4], 'divider', 0.8)))
    assert found.scores.tolist() == pytest.approx([0.8])
    np.testing.assert_allclose(found.points[0], LINE + [0, 0.2], atol=1e-5)


def test_opposite_centre_lines_stay_two() -> None:
    found = joined(as_raw((LINE, 'centerline', 0.8)), as_raw((LINE[::-1], 'centerline', 0.6)))
    assert found.scores.tolist() == pytest.approx([0.4, 0.3])
    np.testing.assert_allclose(found.points, np.stack([LINE, LINE[::-1]]), atol=1e-5)


def test_a_ring_begins_anywhere() -> None:
    begun_later = np.concatenate([RING[3:], RING[1:4]])
    found = joined(as_raw((RING, 'ped_crossing', 0.9)), as_raw((begun_later[::-1], 'ped_crossing', 0.7)))
    assert found.scores.tolist() == pytest.approx([0.8])
    np.testing.assert_allclose(found.points[0], RING, atol=1e-5)


def test_elements_of_one_forward_or_far_apart_or_of_other_classes_stay_apart() -> None:
    far = LINE + [0, 1.3]
    one = as_raw((LINE, 'divider', 0.8), (LINE + [0, 0.5], 'divider', 0.6))
    assert len(joined(one, one, most=6).scores) == 2
    found = joined(as_raw((LINE, 'divider', 0.8)), as_raw((far, 'divider', 0.6)))
    assert found.scores.tolist() == pytest.approx([0.4, 0.3])
    assert len(joined(as_raw((LINE, 'divider', 0.8)), as_raw((LINE, 'centerline', 0.8))).scores) == 2
