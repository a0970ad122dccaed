"""Detection: targets and back, losses by hand, learning, export."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.core.contracts import NUSCENES_CLASSES, Annotations, DetectionClasses
from perception.core.grid import BEVGrid
from perception.core.protocols import ATTRIBUTES, DETECTION_CLASSES
from perception.heads.detection import CenterHead
from perception.heads.detection.classes import MOVING_ATTRIBUTES, SIX_GROUPS, crowded_classes
from perception.heads.detection.decode import DecodeRule, choose_attributes, find_peaks
from perception.heads.detection.loss import attribute_loss, box_loss, heatmap_loss
from perception.heads.detection.targets import (
    BOX_CODE,
    as_raw,
    draw_gaussians,
    draw_gaussians_reference,
    gaussian_radius,
)
from perception.registry import MODELS

VALID_ATTRIBUTES = NUSCENES_CLASSES.valid_attributes
FORMS = {
    'one group': dict(), 'six groups': dict(groups=SIX_GROUPS), 'finer': dict(upsample=2),
    'separate': dict(branches=dict(separate=True, final_kernel=3)),
    'aligned': dict(branches=dict(channels=16, aligned_channels=8), upsample=2)}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def head(request, trunk_grid) -> CenterHead:
    torch.manual_seed(0)
    head = CenterHead(trunk_grid, 8, shared_channels=16, **{'branches': dict(channels=16)} | request.param)
    for branch in head.branches:
        if branch.aligned is not None:  # begins as nothing
            torch.nn.init.normal_(branch.aligned.last.weight, std=0.01)
    return head


def random_boxes(rng: np.random.Generator, make_boxes, count: int):
    xy = rng.uniform(-25, 25, (count, 2))
    size, yaw, velocity = (
        rng.uniform(0.5, 8, (count, 3)), rng.uniform(-3.1, 3.1, (count, 1)), rng.normal(size=(count, 2)))
    labels = rng.integers(0, 10, count)
    attributes = [
        int(rng.choice(np.flatnonzero(VALID_ATTRIBUTES[n]))) if VALID_ATTRIBUTES[n].any() else -1
        for n in labels
    ]
    return make_boxes(
        np.concatenate([xy, rng.normal(size=(count, 1)), size, yaw, velocity], 1), labels, attributes
    )


def test_registered_and_built_from_a_config(trunk_grid) -> None:
    grid = dict(type='BEVGrid', x_range_m=(-25.6, 25.6), y_range_m=(-25.6, 25.6), cell_m=1.6)
    built = MODELS.build(dict(type='CenterHead', grid=grid, in_channels=4, decoding=dict(max_boxes=7)))
    assert built.grid == trunk_grid and built.decoding.max_boxes == 7


def test_none_in_a_config_is_a_value_outside_of_parts_by_name() -> None:
    grid = dict(type='BEVGrid', x_range_m=(-25.6, 25.6), y_range_m=(-25.6, 25.6), cell_m=1.6)
    built = MODELS.build(dict(type='CenterHead', grid=grid, in_channels=4, decoding=dict(nms=None)))
    assert built.decoding.nms is None
    fuser = MODELS.build(dict(type='ConcatFuser', in_channels=dict(camera=None, lidar=4), out_channels=8))
    bev, there = torch.zeros(1, 4, 2, 2), torch.ones(1, dtype=torch.bool)
    assert fuser({'lidar': bev}, {'lidar': there}).shape[1] == 8


def test_decoding_targets_gives_the_boxes_back(head, make_boxes) -> None:
    labels = random_boxes(np.random.default_rng(1), make_boxes, 40)
    head.decoding = type(head.decoding)(nms=None)
    targets = head.targets([Annotations('a', boxes=labels)])
    found = head.decode(as_raw(targets, len(head.branches)))[0]
    for box, label, attribute in zip(found.boxes_M9, found.labels_M, found.attributes_M, strict=True):
        nearest = np.linalg.norm(labels.boxes_M9[:, :2] - box[:2], axis=1).argmin()
        np.testing.assert_allclose(box, labels.boxes_M9[nearest], atol=2e-4)
        assert (label, attribute) == (labels.labels_M[nearest], labels.attributes_M[nearest])
    assert len(found.scores_M) >= 34 and found.scores_M.min() > 0.999


def test_perfect_raw_costs_nothing(head, boxed) -> None:
    targets = head.targets([boxed, boxed])
    losses = head.loss(as_raw(targets, len(head.branches)), targets)
    assert {name: round(value.item(), 5) for name, value in losses.items()} == dict(
        heatmap=0, box=0, attribute=0
    )


def test_shapes_of_raw_outputs(head) -> None:
    raw = head(torch.rand(2, 8, 32, 32))
    groups, (rows, columns) = len(head.branches), head.grid.shape_YX
    assert {name: tuple(value.shape) for name, value in raw.items()} == {
        'heatmap': (2, 10, rows, columns), 'box': (2, 10 * groups, rows, columns),
        'attribute': (2, 8 * groups, rows, columns)}


def test_target_cell_and_code_by_hand(make_boxes) -> None:
    head = CenterHead(BEVGrid((-4, 4), (-4, 4), 1.0), 4)
    targets = head.targets(
        [Annotations('a', boxes=make_boxes([[1.25, -2.5, 0.7, math.e, 1, 1, math.pi / 2, 3, -1]], [9]))]
    )
    assert (targets.row_P.item(), targets.column_P.item(), targets.channel_P.item()) == (1, 5, 9)
    torch.testing.assert_close(targets.code_P10[0], torch.tensor([0.25, 0.5, 0.7, 1, 0, 0, 1, 0, 3, -1.0]))
    assert targets.heatmap_BCYX[0, 9, 1, 5] == 1 and (targets.heatmap_BCYX == 1).sum() == 1
    assert targets.heatmap_BCYX[0, 9, 1, 6] == pytest.approx(math.exp(-1 / (2 * (5 / 6) ** 2)), rel=1e-5)
    assert targets.heatmap_BCYX[0, :9].max() == 0 and targets.heatmap_BCYX[0, 9, 4:].max() == 0


@pytest.mark.parametrize('length, width, overlap', [(10.0, 10.0, 0.1), (4.0, 2.0, 0.5), (12.0, 3.0, 0.7)])
def test_gaussian_radius_is_the_tightest_of_three_shifts(length, width, overlap) -> None:
    r = float(gaussian_radius(np.array(length), np.array(width), overlap))
    area = length * width
    moved = (length - r) * (width - r)
    ious = [
        moved / (2 * area - moved), (length - 2 * r) * (width - 2 * r) / area,
        area / ((length + 2 * r) * (width + 2 * r))]
    assert min(ious) == pytest.approx(overlap) and r > 0


def test_fast_bumps_equal_slow_bumps() -> None:
    rng = np.random.default_rng(0)
    where = rng.integers(0, 3, 50), rng.integers(0, 20, 50), rng.integers(0, 30, 50), rng.integers(0, 6, 50)
    fast, slow = np.zeros((3, 20, 30), np.float32), np.zeros((3, 20, 30), np.float32)
    draw_gaussians(fast, *where)
    draw_gaussians_reference(slow, *where)
    assert (fast == 1).sum() >= 40
    np.testing.assert_allclose(fast, slow, atol=1e-6)


def test_boxes_that_cannot_be_learned_are_left_out(make_boxes, trunk_grid) -> None:
    good = [1, 1, 0, 4, 2, 1.5, 0, 0, 0]
    labels = make_boxes(
        [
            good, [26, 0, 0, 4, 2, 1, 0, 0, 0], [2, 2, 0, 0, 2, 1, 0, 0, 0], [5, 5, np.nan, 4, 2, 1, 0, 0, 0],
            [9, 9, 0, 4, 2, 1, 0, 0, 0]],
        [0, 0, 0, 0, 0],
    )
    labels.num_lidar_points_M[4] = 0
    targets = CenterHead(trunk_grid, 4).targets([Annotations('a', boxes=labels)])
    assert len(targets.label_P) == 1 and (targets.heatmap_BCYX == 1).sum() == 1

    without_minimum = CenterHead(trunk_grid, 4, targets=dict(min_points=0))
    assert len(without_minimum.targets([Annotations('a', boxes=labels)]).label_P) == 2


def test_two_boxes_in_one_cell_keep_one_code(make_boxes, trunk_grid) -> None:
    twins = make_boxes([[1, 1, 0, 4, 2, 1.5, 0, 0, 0], [1.1, 1.1, 3, 4, 2, 1.5, 0, 0, 0]], [0, 1])
    assert len(CenterHead(trunk_grid, 4).targets([Annotations('a', boxes=twins)]).label_P) == 1
    six_groups = CenterHead(trunk_grid, 4, groups=SIX_GROUPS)
    assert len(six_groups.targets([Annotations('a', boxes=twins)]).label_P) == 2


def test_heatmap_loss_by_hand(make_boxes) -> None:
    head = CenterHead(BEVGrid((0, 2), (0, 1), 1.0), 4, groups=SIX_GROUPS)
    boxes = make_boxes([[0.5, 0.5, 0, 1, 1, 1, 0, 0, 0]], [0])
    targets = head.targets([Annotations('a', boxes=boxes)])
    neighbour = math.exp(-1 / (2 * (5 / 6) ** 2))
    expected = 0.25 * math.log(2) * (1 + (1 - neighbour) ** 4 + 18)
    groups = torch.as_tensor(head.group_of_channel)
    assert heatmap_loss(torch.zeros(1, 10, 1, 2), targets, groups).item() == pytest.approx(expected, rel=1e-5)


def test_box_loss_by_hand(make_boxes) -> None:
    head = CenterHead(BEVGrid((0, 8), (0, 8), 1.0), 4)
    boxes = make_boxes([[0.5, 0.5, 1, 1, 1, 1, 0, 2, 0], [5.5, 5.5, 3, 1, 1, 1, 0, np.nan, np.nan]], [0, 8])
    targets = head.targets([Annotations('a', boxes=boxes)])
    found = box_loss(torch.zeros(1, 10, 8, 8), targets, head.losses.code)
    assert found.item() == pytest.approx(((0.5 + 0.5 + 1 + 1 + 0.2 * 2) + (0.5 + 0.5 + 3 + 1)) / 2)


def test_what_moves_counts_as_often_as_it_is_told(make_boxes) -> None:
    """A car of 2 m/s and one that stands, both predicted at 1 m/s; a third whose velocity nobody knows."""
    head = CenterHead(BEVGrid((0, 8), (0, 8), 1.0), 4)
    boxes = make_boxes(
        [[0.5, 0.5, 0, 1, 1, 1, 0, 2, 0], [5.5, 5.5, 0, 1, 1, 1, 0, 0.4, 0],
         [2.5, 5.5, 0, 1, 1, 1, 0, np.nan, np.nan]], [0, 0, 0])
    targets = head.targets([Annotations('a', boxes=boxes)])
    box = as_raw(targets, 1)['box']
    box[:, BOX_CODE.index('vx_mps')] = 1
    box = box.requires_grad_()
    assert box_loss(box, targets, head.losses.code).item() == pytest.approx(0.2 * (1 + 0.6) / 3)
    cost = box_loss(box, targets, head.losses.code, moving=5)
    assert cost.item() == pytest.approx(0.2 * (5 + 0.6) / 3)

    cost.backward()
    slopes = box.grad[0, BOX_CODE.index('vx_mps')]
    assert slopes[0, 0].item() == pytest.approx(-1 / 3) and slopes[5, 5].item() == pytest.approx(0.2 / 3)
    assert bool(torch.isfinite(box.grad).all())


@pytest.mark.parametrize('separate', [False, True])
def test_velocities_come_in_units_and_nothing_else_does(separate: bool) -> None:
    grid, features = BEVGrid((0, 8), (0, 8), 1.0), torch.randn(1, 4, 8, 8)
    plain, unit = (
        CenterHead(grid, 4, groups=SIX_GROUPS, branches=dict(channels=8, separate=separate, **more)).eval()
        for more in ({}, dict(velocity_unit=8.0)))
    unit.load_state_dict(plain.state_dict())
    expected, found = plain(features), unit(features)
    assert torch.equal(found['heatmap'], expected['heatmap'])
    assert torch.equal(found['attribute'], expected['attribute'])
    boxes, scaled = (raw['box'].unflatten(1, (6, 10)) for raw in (expected, found))
    assert torch.equal(scaled[:, :, :8], boxes[:, :, :8])
    assert torch.equal(scaled[:, :, 8:], 8 * boxes[:, :, 8:])


def test_a_barrier_turned_half_around_costs_nothing_and_a_car_does(make_boxes) -> None:
    """Predicted headings are the true ones plus pi, but for a tenth: 0.1 for the barrier, 1.9 for the car."""
    head = CenterHead(BEVGrid((0, 8), (0, 8), 1.0), 4, groups=SIX_GROUPS)
    boxes = make_boxes(
        [[0.5, 0.5, 0, 1, 1, 1, 0, 0, 0], [5.5, 5.5, 0, 1, 1, 1, 0, np.nan, np.nan]],
        [DETECTION_CLASSES.index('car'), DETECTION_CLASSES.index('barrier')])
    targets = head.targets([Annotations('a', boxes=boxes)])
    box = as_raw(targets, 6)['box'].unflatten(1, (6, 10))
    box[:, :, BOX_CODE.index('cos_yaw')] *= -0.9
    box = box.flatten(1, 2).requires_grad_()
    cost = box_loss(box, targets, head.losses.code)
    assert cost.item() == pytest.approx(1.9 + 0.1, abs=1e-5)

    # the barrier goes on to -1, the car to +1
    cost.backward()
    slopes = box.grad.unflatten(1, (6, 10))[0, :, BOX_CODE.index('cos_yaw')]
    assert (slopes[0].sum().item(), slopes[3].sum().item()) == (-1, 1)


def test_attribute_loss_by_hand_counts_valid_attributes_only(make_boxes) -> None:
    head = CenterHead(BEVGrid((0, 8), (0, 8), 1.0), 4)
    boxes = make_boxes(
        [
            [0.5, 0.5, 1, 1, 1, 1, 0, 2, 0], [5.5, 5.5, 3, 1, 1, 1, 0, 0, 0], [2.5, 5.5, 3, 1, 1, 1, 0, 0, 0],
            [7.5, 5.5, 3, 1, 1, 1, 0, 0, 0]],
        [0, 7, 8, 0],
        [5, 3, -1, 0],
    )
    targets = head.targets([Annotations('a', boxes=boxes)])
    found = attribute_loss(torch.zeros(1, 8, 8, 8), targets)
    assert found.item() == pytest.approx((math.log(3) + math.log(2)) / 2)


def test_valid_attributes_by_name() -> None:
    for label, name in enumerate(DETECTION_CLASSES):
        names = {ATTRIBUTES[a].split('.')[0] for a in np.flatnonzero(VALID_ATTRIBUTES[label])}
        assert names == {
            'car': {'vehicle'}, 'pedestrian': {'pedestrian'}, 'bicycle': {'cycle'}, 'motorcycle': {'cycle'},
            'barrier': set(), 'traffic_cone': set()}.get(name, {'vehicle'})


def test_attributes_fit_class_and_speed() -> None:
    logits = np.tile(np.array([0, 0, 0, 0, 0, 5.0, 3, 1]), (4, 1))
    labels = np.array([0, 0, 5, 8])
    velocity = np.array([[9.0, 0], [0, 0], [2, 0], [0, 0]])
    assert choose_attributes(logits, labels, velocity, DecodeRule()).tolist() == [5, 5, 0, -1]
    assert choose_attributes(logits, labels, velocity, DecodeRule(moving_mps=0.5)).tolist() == [5, 6, 0, -1]
    assert [ATTRIBUTES[i] for i in np.flatnonzero(MOVING_ATTRIBUTES)] == [
        'pedestrian.moving', 'cycle.with_rider', 'vehicle.moving']


def test_no_boxes_and_no_labels(head, boxed, make_boxes, names_without_gradient) -> None:
    bev = torch.rand(2, 8, 32, 32)
    unlabelled = head.targets([Annotations('a'), Annotations('b')])
    losses = head.loss(head(bev), unlabelled)
    assert all(value.item() == 0 for value in losses.values())
    assert names_without_gradient(head, bev, unlabelled, zeros_count=True) == []
    empty = head.targets([Annotations('a', boxes=make_boxes([], [])), Annotations('b')])
    losses = head.loss(head(bev), empty)
    assert losses['heatmap'].item() > 0 and losses['box'].item() == losses['attribute'].item() == 0
    assert names_without_gradient(head, bev, empty, zeros_count=True) == []


def test_an_unlabelled_sample_changes_nothing(head, boxed) -> None:
    raw = {name: torch.randn_like(value) for name, value in head(torch.rand(2, 8, 32, 32)).items()}
    both = head.loss(raw, head.targets([boxed, Annotations('b')]))
    alone = head.loss({name: value[:1] for name, value in raw.items()}, head.targets([boxed]))
    torch.testing.assert_close(both, alone)


def test_every_parameter_learns(head, boxed, make_boxes, names_without_gradient) -> None:
    rng = np.random.default_rng(2)
    targets = head.targets([boxed, Annotations('b', boxes=random_boxes(rng, make_boxes, 40))])
    assert names_without_gradient(head, torch.rand(2, 8, 32, 32), targets) == []


def test_overfits_one_batch(head, boxed, make_boxes, overfit) -> None:
    labels = [boxed, Annotations('b', boxes=random_boxes(np.random.default_rng(3), make_boxes, 6))]
    targets = head.targets(labels)
    losses = overfit(head, torch.randn(2, 8, 32, 32), targets, 80, 2e-2)
    assert losses[-1] < 0.03 * losses[0], losses[::20]


def test_decode_limits_and_threshold(trunk_grid) -> None:
    head = CenterHead(trunk_grid, 4, decoding=dict(max_boxes=20, score_threshold=0.0, nms=None))
    raw = {
        name: torch.randn(2, size, 32, 32) for name, size in (('heatmap', 10), ('box', 10), ('attribute', 8))
    }
    for one in head.decode(raw):
        assert len(one.scores_M) == 20
        assert (np.diff(one.scores_M) <= 0).all()
        assert one.boxes_M9.dtype == np.float32
    raw['heatmap'] -= 100
    head.decoding = type(head.decoding)()
    assert [len(one.scores_M) for one in head.decode(raw)] == [0, 0]


def row_of(make_boxes, label: int, count: int, step_m: float, first_m: float = 4.2):
    """Objects of one class side by side along x."""
    rows = [[first_m + i * step_m, 4.2, 0, 0.4, 0.4, 1, 0, 0, 0] for i in range(count)]
    return Annotations('row', boxes=make_boxes(rows, [label] * count))


@pytest.mark.parametrize('grouped', [dict(), dict(groups=SIX_GROUPS)], ids=['one group', 'six groups'])
@pytest.mark.parametrize('name', DETECTION_CLASSES)
def test_people_cones_and_barriers_in_neighbouring_cells_are_all_found(name, grouped, make_boxes) -> None:
    """Four of them 1.1 m apart, on cells of 0.8 m, the second and fourth less sure than their neighbours."""
    head = CenterHead(
        BEVGrid((0, 16), (0, 16), 0.8), 4, decoding=dict(nms='rotated'), branches=dict(channels=4), **grouped)
    targets = head.targets([row_of(make_boxes, DETECTION_CLASSES.index(name), 4, 1.1)])
    raw = as_raw(targets, len(head.branches))
    raw['heatmap'][raw['heatmap'] > 0] = torch.tensor([20.0, 19.0, 18.0, 17.0])
    assert targets.column_P.tolist() == [5, 6, 8, 9]
    assert len(head.decode(raw)[0].scores_M) == (4 if name in crowded_classes(NUSCENES_CLASSES) else 2)


def test_the_window_is_given_by_class_and_stays_where_nothing_else_suppresses(make_boxes) -> None:
    grid, labels = BEVGrid((0, 16), (0, 16), 0.8), row_of(make_boxes, 5, 4, 1.1)

    def found(**decoding: object) -> int:
        head = CenterHead(grid, 4, decoding=decoding)
        raw = as_raw(head.targets([labels]), 1)
        raw['heatmap'][raw['heatmap'] > 0] = torch.tensor([20.0, 19.0, 18.0, 17.0])
        return len(head.decode(raw)[0].scores_M)

    assert (found(nms=None), found(nms=None, peak_kernel={'pedestrian': 1})) == (2, 4)
    assert found(peak_kernel=3) == 2


def test_every_group_has_its_own_best_peaks(make_boxes) -> None:
    """Thirty sure people leave room for a car that is less sure; the best of all come first."""
    rows = [[0.4 + 0.8 * (i % 10), 8.4 + 1.6 * (i // 10), 0, 0.4, 0.4, 1, 0, 0, 0] for i in range(30)]
    labels = Annotations('a', boxes=make_boxes([*rows, [4.2, 2.0, 0, 4, 2, 1, 0, 0, 0]], [5] * 30 + [0]))
    head = CenterHead(BEVGrid((0, 16), (0, 16), 0.8), 4, groups=SIX_GROUPS)
    raw = as_raw(head.targets([labels]), 6)
    raw['heatmap'][0, 0, raw['heatmap'][0, 0] > 0] = 1.0

    _, channels, *_ = find_peaks(raw['heatmap'], np.ones(10, int), head.group_of_channel, 30)
    assert channels.shape == (1, 180) and channels[0, :31].tolist() == [8] * 30 + [0]
    head.decoding = type(head.decoding)(max_boxes=30, nms='rotated')
    assert head.decode(raw)[0].labels_M.tolist() == [5] * 30


@pytest.mark.parametrize('kind', ['circle', 'rotated'])
def test_doubled_peaks_are_suppressed(kind, make_boxes) -> None:
    head = CenterHead(BEVGrid((0, 16), (0, 16), 0.5), 4, decoding=dict(nms=kind))
    labels = make_boxes(
        [
            [4.2, 4.2, 0, 4, 2, 1, 0, 0, 0], [5.4, 4.2, 0, 4, 2, 1, 0, 0, 0], [5.4, 4.2, 0, 4, 2, 1, 0, 0, 0],
            [12.2, 12.2, 0, 4, 2, 1, 0, 0, 0]],
        [0, 0, 1, 0],
    )
    raw = as_raw(head.targets([Annotations('a', boxes=labels)]), 1)
    raw['heatmap'][0, 0, 8, 8] = 30.0
    found = head.decode(raw)[0]
    assert sorted(found.labels_M.tolist()) == [0, 0] or sorted(found.labels_M.tolist()) == [0, 0, 1]
    assert (found.labels_M == 0).sum() == 2 and found.boxes_M9[0, 0] == pytest.approx(4.2, abs=1e-4)


@pytest.mark.parametrize('wrong, word', [(dict(groups=(('car',),)), 'groups'), (dict(upsample=3), 'upsample'),
                                         (dict(losses=dict(code=(1, 1))), 'losses.code'),
                                         (dict(losses=dict(moving=-1)), 'losses.moving'),
                                         (dict(branches=dict(velocity_unit=0)), 'velocity_unit'),
                                         (dict(branches=dict(aligned_channels=-1)), 'aligned_channels'),
                                         (dict(decoding=dict(max_boxes=501)), 'max_boxes'),
                                         (dict(decoding=dict(nms='soft')), 'nms'),
                                         (dict(decoding=dict(peak_kernel=2)), 'peak_kernel'),
                                         (dict(decoding=dict(peak_kernel={'cow': 1})), 'cow'),
                                         (dict(branches=dict(final_kernel=2)), 'final_kernel'),
                                         (dict(decoding=dict(radius_m={'car': 1.0})), 'radius_m')])
def test_wrong_configuration_is_named(wrong, word, trunk_grid) -> None:
    with pytest.raises(ValueError, match=word):
        CenterHead(trunk_grid, 4, **wrong)


def test_export_agrees(head, assert_exports) -> None:
    assert_exports(head, torch.rand(1, 8, 32, 32))


# -------------------------------------------------------------------- other classes

OWN = {
    'pole': dict(categories=['pole'], heading='half', moves=False, crowded=True, nms_radius_m=0.3),
    'car': dict(categories=['vehicle.car'], attributes=['vehicle'])}


def test_own_classes_have_their_channels_and_come_back(trunk_grid, make_boxes) -> None:
    """What a perfect head of two classes says is decoded to the very labels, with their classes."""
    classes = DetectionClasses.of(OWN)
    head = CenterHead(trunk_grid, 4, groups=[['car'], ['pole']], classes=OWN)
    assert head(torch.zeros(1, 4, *trunk_grid.shape_YX))['heatmap'].shape[1] == 2

    rows = [[5.2, 3.1, 0, 4, 2, 1.5, 0.3, 1, 0], [5.2, -8.3, 0, 0.3, 0.3, 2, 1.0, 0, 0]]
    labels = replace(make_boxes(rows, [1, 0], [5, -1]), classes=classes)
    targets = head.targets([Annotations('a', boxes=labels)])
    raw = as_raw(targets, 2)
    assert sum(float(term) for term in head.loss(raw, targets).values()) == pytest.approx(0, abs=1e-3)

    found, = head.decode(raw)
    assert found.classes == classes
    order = np.argsort(found.labels_M)
    assert found.labels_M[order].tolist() == [0, 1] and found.attributes_M[order].tolist() == [-1, 5]
    np.testing.assert_allclose(found.boxes_M9[order], np.array(rows)[::-1], atol=1e-4)

    # a pole that is turned by half costs nothing, a car does
    for row, is_free in ((0, False), (1, True)):
        one = labels.select(np.array([row]))
        raw = as_raw(head.targets([Annotations('a', boxes=one)]), 2)
        one.boxes_M9[:, 6] += np.pi
        cost = float(head.loss(raw, head.targets([Annotations('a', boxes=one)]))['box'])
        assert (cost < 1e-4) == is_free, (row, cost)


def test_labels_of_other_classes_than_the_heads_are_refused(trunk_grid, boxed) -> None:
    head = CenterHead(trunk_grid, 4, classes=OWN)
    with pytest.raises(ValueError, match='annotated boxes: found labels of the classes car, truck.*pole'):
        head.targets([boxed])
    with pytest.raises(ValueError, match=r'groups: expected each detection class exactly once \(pole, car\)'):
        CenterHead(trunk_grid, 4, groups=SIX_GROUPS, classes=OWN)
