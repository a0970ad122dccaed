"""Labels with weights: 1 is an annotated label to the bit, 0 one that is not there, between them a share."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.core.contracts import (
    Annotations,
    BoxLabels,
    LabelledArea,
    LanePolylines,
    MapCells,
    MapLayers,
    OccupancyLabels,
)
from perception.core.grid import BEVGrid
from perception.core.protocols import TASKS
from perception.heads.base import TaskHead
from perception.heads.detection.targets import TargetRule, build_targets, lower_weights
from perception.heads.lanes.loss import direction_loss
from perception.heads.m3net.bridge import first_focal_loss, first_heatmap_loss
from perception.heads.map_segmentation.loss import focal_loss
from perception.heads.map_segmentation.targets import build_targets as build_map
from perception.heads.map_segmentation.targets import draw_layers
from perception.registry import MODELS

GRID = BEVGrid((-16.0, 16.0), (-16.0, 16.0), 1.0)
TASK_GRID = dict(type='BEVGrid', x_range_m=(-16.0, 16.0), y_range_m=(-16.0, 16.0), cell_m=1.0)
VOXELS = dict(TASK_GRID, z_range_m=(-1.0, 1.0), height_cell_m=1.0)
CONFIGS = {
    'detection': dict(type='CenterHead', shared_channels=8, branches=dict(channels=8)),
    'map_segmentation': dict(type='MapSegmentationHead', width=8, task_grid=TASK_GRID),
    'occupancy': dict(type='OccupancyHead', width=8, task_grid=VOXELS),
    'lanes': dict(
        type='LaneHead', features=dict(width=8, x_range_m=(-16.0, 16.0), y_range_m=(-16.0, 16.0), cell_m=1.0),
        decoder=dict(instances=6, points=4, layers=2, feedforward=8)),
}
AREA = LabelledArea((-16.0, 16.0), (-16.0, 16.0))


def boxes(weights: list[float] | None) -> BoxLabels:
    """Two cars and a pedestrian far from each other."""
    none = np.zeros(3, np.int64)
    boxes_M9 = np.array(
        [[8.2, 3.3, 0.9, 4.6, 1.9, 1.7, 0.4, 5, 2], [-9.7, 9.1, 0.8, 4.5, 1.8, 1.8, -2.9, 0, 0],
         [4.4, -9.6, 0.8, 0.7, 0.6, 1.8, -2.9, 1, 0.1]], np.float32)
    given = None if weights is None else np.array(weights, np.float32)
    return BoxLabels(
        boxes_M9, np.array([0, 0, 5]), np.array([5, 6, 2]), none - 1, none, none, weights_M=given)


def layers() -> MapLayers:
    """A road and a divider."""
    road = np.array([[-14.0, -6.0], [14.0, -6.0], [14.0, 6.0], [-14.0, 6.0]])
    line = np.array([[-14.0, 0.0], [14.0, 0.0]])
    return MapLayers({'drivable_area': ((road, ()),)}, {'divider': (line,)}, 20.0)


def cells(weight: float) -> MapCells:
    """The same by cells."""
    masks = draw_layers(layers(), GRID)
    return MapCells(masks, np.full(masks.shape, weight, np.float32), AREA)


def voxels(weight: float | None) -> OccupancyLabels:
    """Road below, a block of cars, free air."""
    semantics = np.full((32, 32, 2), 17, np.uint8)
    semantics[..., 0], semantics[4:8, 4:8, 1] = 11, 4
    seen = np.ones_like(semantics)
    weights = None if weight is None else np.full(semantics.shape, weight, np.float32)
    return OccupancyLabels(semantics, seen, seen, weights_XYZ=weights)


def lanes(weights: list[float] | None) -> LanePolylines:
    """A divider and a boundary."""
    lines = (np.array([[-14, 2], [14, 3]], np.float32), np.array([[-12, -8], [12, -8]], np.float32))
    given = None if weights is None else np.array(weights, np.float32)
    return LanePolylines(lines, np.array([0, 2]), 20.0, weights_L=given)


def labelled(task: str, weight: float | None) -> Annotations:
    """Labels of one task, annotated (None) or all of one weight."""
    made = {
        'detection': lambda: {'boxes': boxes(None if weight is None else [weight] * 3)},
        'map_segmentation': lambda: {'map_layers': layers() if weight is None else cells(weight)},
        'occupancy': lambda: {'occupancy': voxels(weight)},
        'lanes': lambda: {'lanes': lanes(None if weight is None else [weight] * 2)}}
    return Annotations('a', **made[task]())


@pytest.fixture(params=TASKS)
def head(request) -> TaskHead:
    torch.manual_seed(0)
    return MODELS.build(dict(CONFIGS[request.param], grid=TASK_GRID, in_channels=8)).train()


def losses(head: TaskHead, raw: dict, *annotations: Annotations) -> dict[str, float]:
    return {name: term.item() for name, term in head.loss(raw, head.targets(annotations)).items()}


def test_weight_one_is_an_annotated_label_to_the_bit(head) -> None:
    raw = head(torch.rand(2, 8, 32, 32))
    other = labelled(head.task, None)
    found = losses(head, raw, labelled(head.task, 1.0), other)
    assert found == losses(head, raw, other, other) and any(found.values())


def test_weight_zero_teaches_nothing(head) -> None:
    """Of cells, voxels and whole areas: as if the frame had no labels. Gradients, too."""
    bev = torch.rand(2, 8, 32, 32)
    bare, other = labelled(head.task, 0.0), labelled(head.task, None)
    if head.task in ('detection', 'lanes'):  # what lies outside of where one looked counts nothing either
        nowhere = LabelledArea((90.0, 91.0), (90.0, 91.0))
        field = 'boxes' if head.task == 'detection' else 'lanes'
        bare = replace(bare, **{field: replace(getattr(bare, field), area=nowhere)})

    found, gradients = [], []
    for one in (bare, Annotations('none')):
        torch.manual_seed(1)
        leaf = bev.clone().requires_grad_()
        terms = head.loss(head(leaf), head.targets([one, other]))
        sum(terms.values()).backward()
        found.append({name: term.item() for name, term in terms.items()})
        gradients.append(leaf.grad)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_a_weight_is_a_share_of_loss_and_count(head) -> None:
    """Half the weight everywhere: between real labels and none, and the mean of both for one frame alone."""
    raw = head(torch.rand(1, 8, 32, 32))
    whole, half = (losses(head, raw, labelled(head.task, weight)) for weight in (1.0, 0.5))
    assert all(np.isfinite(value) for value in half.values())
    if head.task == 'map_segmentation':  # the weights of less than a frame are divided by a whole one
        assert half == pytest.approx({name: value / 2 for name, value in whole.items()}, rel=1e-5)
    if head.task == 'occupancy':  # weighted means and ratios
        assert half == pytest.approx(whole, rel=1e-4)


def test_weights_of_boxes_by_hand() -> None:
    head = MODELS.build(dict(CONFIGS['detection'], grid=TASK_GRID, in_channels=8))
    targets = head.targets([Annotations('a', boxes=boxes([1.0, 0.25, 0.0]))])
    assert targets.label_P.tolist() == [0, 0] and sorted(targets.weight_P.tolist()) == [0.25, 1.0]
    assert (targets.heatmap_BCYX == 1).sum() == 2  # of the third only its place is known: not learned

    weights = targets.weight_BCYX[0]
    assert weights[0, 19, 24] == 1 and weights[0, 25, 6] == 0.25 and weights[5, 6, 20] == 0
    beside = targets.heatmap_BCYX[0, 0, 25, 7].item()
    assert weights[0, 25, 7].item() == pytest.approx(1 - 0.75 * beside) and 0 < beside < 1
    assert weights[1:5].min() == 1 and weights[0, 0, 0] == 1

    raw = head(torch.rand(1, 8, 32, 32))
    code = raw['box'][0, :, targets.row_P, targets.column_P].T
    code_weights = torch.tensor(head.losses.code, dtype=torch.float32)
    per_box = ((code - targets.code_P10).abs() * code_weights).sum(1)
    expected = head.losses.box * (per_box * targets.weight_P).sum() / 1.25
    torch.testing.assert_close(head.loss(raw, targets)['box'], expected)


def test_lowering_weights_is_the_loop_written_out() -> None:
    found, expected = np.ones((2, 2, 9, 9), np.float32)
    places = (np.array([0, 0, 1]), np.array([4, 4, 0]), np.array([3, 5, 8]), np.array([2, 3, 2]))
    weights = np.array([0.5, 0.0, 0.9], np.float32)
    lower_weights(found, *places, weights)
    i, j = np.mgrid[:9, :9]
    for plane, row, column, radius, weight in zip(*places, weights, strict=True):
        sigma = (2 * radius + 1) / 6
        peak = np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma ** 2))
        inside = (abs(i - row) <= radius) & (abs(j - column) <= radius)
        expected[plane] = np.minimum(expected[plane], np.where(inside, 1 - peak * (1 - weight), 1))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_boxes_were_looked_for_in_an_area() -> None:
    """Beyond it the heatmap teaches nothing, wherever the world is turned to."""
    quarter = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    area = LabelledArea((0.0, 16.0), (-16.0, 16.0)).moved(quarter)  # ahead, turned to the left
    rule = TargetRule(GRID, np.arange(10), np.zeros(10, int))
    weights = build_targets([Annotations('a', boxes=replace(boxes(None), area=area))], rule).weight_BCYX
    assert weights[0, :, 16:].min() == 1 and weights[0, :, :16].max() == 0


def test_cells_of_a_map_are_read_where_they_lie() -> None:
    """The same cells to the bit; moved by two cells; beyond them nothing is labelled."""
    same = build_map([Annotations('a', map_layers=cells(1.0))], GRID)
    assert same.weights_B6YX is None
    assert torch.equal(same.masks_B6YX, build_map([Annotations('a', map_layers=layers())], GRID).masks_B6YX)

    shift = np.eye(4)
    shift[0, 3] = 2.0
    moved = replace(cells(0.5), area=AREA.moved(shift))
    targets = build_map([Annotations('a', map_layers=moved)], GRID)
    assert torch.equal(targets.masks_B6YX[..., 2:], same.masks_B6YX[..., :-2])
    assert targets.weights_B6YX[..., :2].max() == 0 and (targets.weights_B6YX[..., 2:] == 0.5).all()


def test_the_weighted_mean_of_a_map_by_hand() -> None:
    """Two frames' weights are more than one frame's: a weighted mean, class by class."""
    logits = torch.randn(2, 6, 32, 32)
    parts = [build_map([Annotations('a', map_layers=one)], GRID) for one in (layers(), cells(0.25))]
    both = build_map([Annotations('a', map_layers=one) for one in (layers(), cells(0.25))], GRID)
    ones = [1.0] * 6
    alone = [focal_loss(logits[i:i + 1], parts[0], 2.0, ones) for i in range(2)]
    expected = (alone[0] + 0.25 * alone[1]) / 1.25
    torch.testing.assert_close(focal_loss(logits, both, 2.0, ones), expected)


def test_vehicles_are_as_sure_as_their_boxes() -> None:
    names = ('drivable_area', 'ped_crossing', 'walkway', 'stop_line', 'carpark_area', 'divider', 'vehicle')
    sure = Annotations('a', map_layers=layers(), boxes=boxes([1.0, 0.5, 0.0]))
    targets = build_map([sure], GRID, names)
    plain = build_map([replace(sure, boxes=boxes(None))], GRID, names)
    assert torch.equal(targets.masks_B6YX, plain.masks_B6YX)  # the pedestrian is no vehicle
    ground = plain.masks_B6YX[0, 6].bool()
    assert set(targets.weights_B6YX[0, 6][ground].tolist()) == {1.0, 0.5}
    assert (targets.weights_B6YX[0, :6] == 1).all() and (targets.weights_B6YX[0, 6][~ground] == 1).all()
    by_cells = build_map([replace(sure, map_layers=cells(1.0))], GRID, names)
    assert torch.equal(by_cells.masks_B6YX, plain.masks_B6YX)


def test_a_doubtful_element_keeps_its_instance_out() -> None:
    """It is matched, so that its instance is no background, and weighs nothing."""
    head = MODELS.build(dict(CONFIGS['lanes'], grid=TASK_GRID, in_channels=8)).train()
    raw = head(torch.rand(1, 8, 32, 32))
    sure, doubtful = (head.targets([Annotations('a', lanes=lanes(w))]) for w in ([1.0, 1.0], [1.0, 0.0]))
    assert doubtful.masks_BKYX[0, 2].max() == 0 and sure.masks_BKYX[0, 2].max() == 1
    line = sure.masks_BKYX[0, 2].bool()
    assert (doubtful.weights_BKYX[0, 2][line] == 0).all() and (doubtful.weights_BKYX[0, 2][~line] == 1).all()

    pair = torch.rand(2, 4, 2), torch.rand(2, 4, 2), (32.0, 32.0)
    first = direction_loss(pair[0][:1], pair[1][:1], pair[2])
    torch.testing.assert_close(direction_loss(*pair, torch.tensor([1.0, 0.0])), first)
    assert head.loss(raw, doubtful)['points'] != head.loss(raw, sure)['points']


def test_a_bridge_that_predicts_counts_weights_too() -> None:
    """M3Net's first heatmap and map: weights of 1 change nothing, of one cell's 0 its loss and its object."""
    logits, heatmap = torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    heatmap[0, 1, 2, 2] = heatmap[1, 0, 0, 0] = 1
    labelled, ones = torch.tensor([True, True]), torch.ones(2, 3, 4, 4)
    plain = first_heatmap_loss(logits, heatmap, labelled)
    assert first_heatmap_loss(logits, heatmap, labelled, ones) == plain
    weights = ones.clone()
    weights[1] = 0
    alone = first_heatmap_loss(logits[:1], heatmap[:1], labelled[:1])
    torch.testing.assert_close(first_heatmap_loss(logits, heatmap, labelled, weights), alone)

    masks = (heatmap > 0).float()
    assert first_focal_loss(logits, masks, labelled, ones) == first_focal_loss(logits, masks, labelled)
    alone = first_focal_loss(logits[:1], masks[:1], labelled[:1])
    torch.testing.assert_close(first_focal_loss(logits, masks, labelled, weights), alone)
