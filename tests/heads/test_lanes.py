"""Lanes: clipping, equivalent orders, matching and losses by hand, attention, learning, export."""
from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, LanePolylines
from perception.core.grid import BEVGrid
from perception.core.protocols import LANE_CLASSES
from perception.heads.lanes import LaneHead
from perception.heads.lanes.attention import DeformableMapAttention, MapAttention
from perception.heads.lanes.decoder import CurveRefinement, start_lines
from perception.heads.lanes.loss import direction_loss, segmentation_loss
from perception.heads.lanes.matching import match_elements, point_distance
from perception.heads.lanes.targets import (
    LaneElements,
    LaneRule,
    LaneTargets,
    as_raw,
    build_targets,
    cut_to_range,
    equivalent_orders,
)
from perception.heads.matching import class_cost

RULE = LaneRule(BEVGrid((-30, 30), (-15, 15), 1.0), ('divider', 'ped_crossing', 'boundary'))
SQUARE = np.array([[2.0, 2.0], [6.0, 2.0], [6.0, 6.0], [2.0, 6.0], [2.0, 2.0]], dtype=np.float32)


def lanes_of(*lines: tuple[list | np.ndarray, str]) -> Annotations:
    points = tuple(np.asarray(line, dtype=np.float32) for line, _ in lines)
    return Annotations(
        'lanes', lanes=LanePolylines(points, np.array([LANE_CLASSES.index(n) for _, n in lines], int), 60.0)
    )


@pytest.fixture(scope='module')
def street() -> Annotations:
    """Two boundaries longer than the range, a divider between them, a crossing, a centerline that is not
    asked for."""
    return lanes_of(
        ([[-50, 8], [0, 9], [50, 8]], 'boundary'), ([[50, -8], [-50, -8]], 'boundary'),
        ([[-20, 0], [25, 1]], 'divider'), (SQUARE, 'ped_crossing'), ([[-30, 3], [30, 3]], 'centerline'))


FEATURES = dict(width=32, cell_m=3.0)
DECODER = dict(instances=12, points=6, layers=2, feedforward=32)
VARIANTS = {
    'deformable': dict(decoder=DECODER),
    'plain': dict(decoder=dict(DECODER, cross_attention='plain')),
    'full': dict(decoder=dict(DECODER, self_attention='full')),
    'one layer': dict(decoder=dict(DECODER, layers=1)),
    'repeats': dict(decoder=DECODER, targets=dict(auxiliary_repeats=2))}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def head(request, trunk_grid) -> LaneHead:
    torch.manual_seed(0)
    return LaneHead(trunk_grid, 8, features=FEATURES, **request.param)


def test_lines_are_cut_and_classes_chosen(street) -> None:
    pieces = cut_to_range(street.lanes, RULE)
    assert [(piece.name, piece.closed) for piece in pieces] == [
        ('boundary', False), ('boundary', False), ('divider', False), ('ped_crossing', True)]
    np.testing.assert_allclose(pieces[1][0], [[30, -8], [-30, -8]])
    np.testing.assert_allclose(pieces[0][0], [[-30, 8.4], [0, 9], [30, 8.4]], atol=1e-6)


def test_a_ring_cut_by_the_range_is_one_open_piece_across_its_seam() -> None:
    ring = np.array([[28.0, 0.0], [40.0, 0.0], [40.0, 5.0], [28.0, 5.0], [28.0, 0.0]], dtype=np.float32)
    piece, = cut_to_range(lanes_of((ring, 'ped_crossing')).lanes, RULE)
    assert not piece.closed and piece.name == 'ped_crossing'
    np.testing.assert_allclose(piece.points_Q2, [[30, 5], [28, 5], [28, 0], [30, 0]])


def test_a_crossing_of_a_published_protocol_is_closed_along_the_range() -> None:
    """A crossing of 4 x 6 m that the front border halves: closed by the published rule, open by ours."""
    ring = np.array([[28.0, -3], [32, -3], [32, 3], [28, 3], [28, -3]], np.float32)
    ours = LanePolylines((ring,), np.array([LANE_CLASSES.index('ped_crossing')]), 60.0)
    (open_piece,) = cut_to_range(ours, RULE)
    (closed_piece,) = cut_to_range(replace(ours, protocol='maptr'), RULE)
    assert (open_piece.closed, closed_piece.closed) == (False, True)
    assert len(open_piece.points_Q2) == 4 and len(closed_piece.points_Q2) == 5
    assert closed_piece.points_Q2.max(0).tolist() == [30, 3]


def test_short_pieces_and_absent_lanes_give_nothing() -> None:
    assert cut_to_range(lanes_of(([[29.8, 0], [40, 0]], 'divider')).lanes, RULE) == []
    assert cut_to_range(None, RULE) == []
    assert cut_to_range(lanes_of().lanes, RULE) == []


def test_open_lines_have_two_orders() -> None:
    line = np.array([[0.0, 0], [1, 0], [2, 0]])
    np.testing.assert_array_equal(equivalent_orders(line, False), [line, line[::-1]])


def test_closed_lines_have_every_start_in_both_directions() -> None:
    orders = equivalent_orders(SQUARE, True)
    assert orders.shape == (8, 5, 2) and len({o.tobytes() for o in orders}) == 8
    assert (orders[:, 0] == orders[:, -1]).all()
    steps = np.linalg.norm(np.diff(orders, axis=1), axis=-1)
    np.testing.assert_allclose(steps, 4.0)


def test_a_centre_line_has_the_direction_of_its_traffic_alone() -> None:
    """A closed one may begin anywhere, as a roundabout does; a boundary on the same points has both ways."""
    rule = LaneRule(RULE.grid, ('boundary', 'centerline'), points=5)
    line = [[20.0, 3], [-20, 3]]
    labels = lanes_of((line, 'centerline'), (SQUARE, 'centerline'), (line, 'boundary'))
    elements = build_targets([labels], rule).elements[0]
    assert elements.first_G.tolist() == [0, 1, 5] and len(elements.orders_VP2) == 7
    assert elements.orders_VP2[0, :, 0].tolist() == pytest.approx([5 / 6, 2 / 3, 1 / 2, 1 / 3, 1 / 6])
    x, y = elements.orders_VP2[1:5, :4].transpose(2, 0, 1)
    area = (x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)  # of the square, by its turning sense
    assert (area > 0).all()


def test_a_prediction_against_the_traffic_costs_its_way_back(trunk_grid) -> None:
    labels = lanes_of(([[20.0, 3], [-20, 3]], 'centerline'))
    head = LaneHead(trunk_grid, 8, classes=('centerline',), features=dict(width=8, cell_m=3.0),
                    decoder=dict(instances=3, points=3))
    targets = head.targets([labels])
    raw = as_raw(targets, 3)
    assert head.loss(raw, targets)['points'].item() == 0
    assert head.decode(raw)[0].points_LP2[0, [0, -1], 0].tolist() == pytest.approx([20, -20], abs=1e-4)
    raw['points'] = raw['points'].flip(2)
    # two ends, each 40 of 60 m away, with the weight 5
    assert head.loss(raw, targets)['points'].item() == pytest.approx(5 * 2 * 40 / 60)
    assert head.loss(raw, targets)['direction'].item() == pytest.approx(0.005 * 2 * 2)


def test_targets_lie_in_the_range_with_twenty_points(street) -> None:
    targets = build_targets([street, Annotations('b')], RULE)
    first, second = targets.elements
    assert first.orders_VP2.shape == (2 + 2 + 2 + 38, 20, 2) and first.first_G.tolist() == [0, 2, 4, 6]
    assert first.labels_G.tolist() == [2, 2, 0, 1] and len(second.labels_G) == 0
    assert first.orders_VP2.min() >= 0
    assert first.orders_VP2.max() <= 1
    assert targets.labelled_B.tolist() == [True, False]
    np.testing.assert_allclose(first.orders_VP2[2, [0, -1]], [[1, 7 / 30], [0, 7 / 30]], atol=1e-6)
    assert targets.masks_BKYX.shape == (2, 3, 30, 60) and targets.masks_BKYX[1].max() == 0
    assert targets.masks_BKYX[0, 2, 7, 30] == 1 and targets.masks_BKYX[0, 2, 14, 30] == 0


def test_decoding_targets_gives_the_lines_back(street, trunk_grid) -> None:
    head = LaneHead(trunk_grid, 8, features=dict(width=8), decoding=dict(score_threshold=0.5))
    found = head.decode(as_raw(head.targets([street]), 50))[0]
    assert sorted(found.labels_L.tolist()) == [0, 1, 2, 2] and found.scores_L.min() > 0.999
    boundary = found.points_LP2[found.labels_L == 2]
    expected = np.stack([np.linspace(30, -30, 20), np.full(20, -8.0)], 1)
    assert min(np.abs(line - expected).max() for line in boundary) < 1e-4
    crossing = found.points_LP2[found.labels_L == 1][0]
    assert np.abs(crossing - 4).max() == pytest.approx(2, abs=1e-4)


def test_truth_as_prediction(street, head) -> None:
    targets = head.targets([street])
    raw = as_raw(targets, 12) | {'segmentation': (targets.masks_BKYX.float() * 2 - 1) * 20}
    losses = head.loss(raw, targets)
    assert set(losses) == {'classification', 'points', 'direction', 'segmentation'}
    assert all(abs(value.item()) < 1e-4 for value in losses.values()), losses


def test_any_equivalent_order_is_as_good(street, head) -> None:
    targets = head.targets([street])
    elements = targets.elements[0]
    raw = as_raw(targets, 12)
    for g, offset in enumerate([1, 1, 0, 7]):
        raw['points'][0, g] = torch.from_numpy(elements.orders_VP2[elements.first_G[g] + offset])
    assert head.loss(raw, targets)['points'].item() < 1e-5


def test_matching_by_hand() -> None:
    line = np.array([[0.0, 0], [1, 0]])
    orders = np.concatenate([equivalent_orders(line, False), equivalent_orders(line + [0, 1], False)]).astype(
        np.float32
    )
    elements = LaneElements(orders, np.array([0, 2]), np.array([0, 1]))
    points = np.stack([line[::-1] + [0, 0.9], line * 0 + 5, line + [0, 0.1]])
    match = match_elements(np.zeros((3, 2)), points, elements)
    assert dict(zip(match.element_T.tolist(), match.instance_T.tolist(), strict=True)) == {0: 2, 1: 0}
    assert dict(zip(match.element_T.tolist(), match.order_T.tolist(), strict=True)) == {0: 0, 1: 3}

    # sums of absolute differences, and a thousandth of those of squares
    expected = np.array([0.2, 2.2, 1.8, 3.8]) + 1e-3 * np.array([0.02, 2.02, 1.62, 3.62])
    np.testing.assert_allclose(point_distance(points[2:], orders), [expected], atol=1e-6)


def test_matching_does_not_hang_on_the_last_bit() -> None:
    """Five instances wholly to one side of five lines: by absolute differences all assignments cost the same.

    Whatever the noise of float32, pairs do not cross: the outermost instance goes to the outermost line.
    """
    line = np.stack([np.linspace(0.2, 0.8, 20), np.zeros(20)], 1)
    lines = [line + [0, y] for y in (0.5, 0.6, 0.7, 0.8, 0.9)]
    orders = np.concatenate([equivalent_orders(x, False) for x in lines]).astype(np.float32)
    elements = LaneElements(orders, np.arange(5) * 2, np.zeros(5, int))
    instances = np.stack([line + [0, y] for y in (0.31, 0.12, 0.43, 0.04, 0.25)])

    rng = np.random.default_rng(0)
    for _ in range(30):
        noisy = (instances * (1 + 1e-7 * rng.normal(size=instances.shape))).astype(np.float32)
        match = match_elements(np.zeros((5, 1)), noisy, elements)
        assert match.element_T[np.argsort(match.instance_T)].tolist() == [3, 1, 4, 0, 2]


def test_matching_is_the_cheapest_of_all() -> None:
    rng = np.random.default_rng(0)
    lines = rng.random((4, 5, 2)).astype(np.float32)
    elements = LaneElements(np.concatenate([equivalent_orders(x, False) for x in lines]), np.arange(4) * 2,
                            rng.integers(0, 3, 4))
    logits, points = rng.normal(size=(6, 3)), rng.random((6, 5, 2))
    match = match_elements(logits, points, elements)

    def cost(instance: int, g: int) -> float:
        apart = [points[instance] - order for order in elements.orders_VP2[2 * g : 2 * g + 2]]
        nearest = min(np.abs(d).sum() + 1e-3 * (d ** 2).sum() for d in apart)
        return 2 * class_cost(logits)[instance, elements.labels_G[g]] + 5 * nearest

    best = min(sum(cost(i, g) for g, i in enumerate(chosen)) for chosen in permutations(range(6), 4))
    found = sum(cost(i, g) for i, g in zip(match.instance_T, match.element_T, strict=True))
    assert found == pytest.approx(best, rel=1e-5)


def test_repeats_match_several_instances() -> None:
    line = np.array([[0.0, 0], [1, 0]])
    elements = LaneElements(equivalent_orders(line, False).astype(np.float32), np.array([0]), np.array([0]))
    points = np.stack([line + [0, 0.01 * i] for i in range(5)])
    assert sorted(match_elements(np.zeros((5, 1)), points, elements, repeats=3).instance_T) == [0, 1, 2]
    assert len(match_elements(np.zeros((5, 1)), points, elements, repeats=9).instance_T) == 5


def test_class_cost_by_hand() -> None:
    found = class_cost(np.array([[0.0]]))
    assert found[0, 0] == pytest.approx(0.25 * 0.25 * math.log(2) - 0.75 * 0.25 * math.log(2))


def test_predictions_of_nan_reach_the_loss(street, head) -> None:
    targets = head.targets([street])
    raw = as_raw(targets, 12)
    raw['points'][:] = float('nan')
    assert torch.isnan(head.loss(raw, targets)['points'])


def test_losses_by_hand(trunk_grid) -> None:
    head = LaneHead(
        trunk_grid, 8, classes=('divider',), features=dict(width=8), decoder=dict(points=2, instances=2)
    )
    targets = head.targets([lanes_of(([[-30, 0], [30, 0]], 'divider'))])
    points = torch.tensor([[[[0.0, 0.5], [1.0, 0.6]], [[0.2, 0.0], [0.3, 0.1]]]])
    losses = head.loss({'logits': torch.zeros(1, 2, 1), 'points': points}, targets)
    assert losses['points'].item() == pytest.approx(5 * 0.1, rel=1e-4)
    assert losses['classification'].item() == pytest.approx(2 * 0.25 * math.log(2) * (0.25 + 0.75), rel=1e-4)
    assert losses['direction'].item() == pytest.approx(0.005 * (1 - 60 / math.hypot(60, 3)), rel=1e-3)


def test_direction_by_hand() -> None:
    straight = torch.tensor([[[0.0, 0], [1, 0], [2, 0]]])
    for turned, expected in ((straight, 0), (straight.flip(1), 4), (straight[..., [1, 0]], 2)):
        assert direction_loss(turned, straight, (1.0, 1.0)).item() == pytest.approx(expected, abs=1e-6)


def test_segmentation_by_hand() -> None:
    masks = torch.zeros(2, 1, 1, 2, dtype=torch.uint8)
    masks[0, 0, 0, 0] = 1
    targets = LaneTargets((), masks, torch.tensor([True, False]))
    found = segmentation_loss(torch.zeros(2, 1, 1, 2), targets, 4.0)
    assert found.item() == pytest.approx((4 + 1) / 2 * math.log(2), rel=1e-5)


def sample_reference(values: np.ndarray, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One query, one head, one place after the other, bilinear by its four cells; cell centres at (i + 0.5) /
    size."""
    (batch, channels, rows, columns), heads = values.shape, places.shape[2]
    share = channels // heads
    result = np.zeros((batch, places.shape[1], channels))
    for b, q, h, k in np.ndindex(places.shape[:4]):
        x, y = places[b, q, h, k] * [columns, rows] - 0.5
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if 0 <= i < rows and 0 <= j < columns:
                    part = (1 - abs(y - i)) * (1 - abs(x - j)) * weights[b, q, h, k]
                    result[b, q, h * share : (h + 1) * share] += (
                        part * values[b, h * share : (h + 1) * share, i, j]
                    )
    return result


def test_deformable_attention_equals_its_reference() -> None:
    """References near the border too: what lies beyond it reads zero."""
    torch.manual_seed(0)
    layer = DeformableMapAttention(6, 3, 2, (5, 7))
    for parameter in layer.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    queries, references, memory = torch.randn(2, 4, 6), torch.rand(2, 4, 2), torch.randn(2, 6, 5, 7)
    with torch.no_grad():
        places = references[:, :, None, None] + layer.offsets(queries).view(2, 4, 3, 2, 2) / torch.tensor(
            [7.0, 5.0]
        )
        weights = layer.weights(queries).view(2, 4, 3, 2).softmax(-1)
        values = (
            torch.einsum('oc,bcyx->boyx', layer.value.weight[:, :, 0, 0], memory)
            + layer.value.bias[:, None, None]
        )
        sampled = sample_reference(values.numpy(), places.numpy(), weights.numpy())
        expected = layer.out(torch.tensor(sampled, dtype=torch.float32))
        torch.testing.assert_close(layer(queries, references, memory), expected, atol=1e-5, rtol=1e-4)


def test_plain_attention_equals_softmax_by_hand() -> None:
    torch.manual_seed(0)
    layer = MapAttention(4, 1, 0, (2, 3))
    queries, memory = torch.randn(1, 5, 4), torch.randn(1, 4, 2, 3)
    a = layer.attention
    keys = a.key((memory + layer.positions_CYX)[0].flatten(1).T)
    weights = (a.query(queries[0]) @ keys.T / 2).softmax(-1)
    expected = a.out(weights @ a.value(memory[0].flatten(1).T))
    torch.testing.assert_close(layer(queries, None, memory)[0], expected, atol=1e-5, rtol=1e-4)


def test_first_offsets_look_in_every_direction() -> None:
    layer = DeformableMapAttention(8, 4, 2, (10, 20))
    offsets = layer.offsets.bias.reshape(4, 2, 2)
    torch.testing.assert_close(
        offsets[:, 0], torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(offsets[:, 1], offsets[:, 0] * 2)


def test_start_lines_are_inside_and_different() -> None:
    lines = start_lines(50, 20)
    assert lines.shape == (50, 20, 2) and lines.min() >= 0 and lines.max() <= 1
    assert (torch.cdist(lines.flatten(1), lines.flatten(1)) + torch.eye(50) * 9).min() > 0.05


def test_moves_are_a_cubic_and_single_steps() -> None:
    torch.manual_seed(0)
    refinement, content = CurveRefinement(8, 20), torch.randn(2, 3, 20, 8)
    assert refinement(content).abs().max() == 0

    torch.nn.init.normal_(refinement.curve[-1].weight)
    steps = refinement(content).detach().numpy()
    t = np.linspace(-1, 1, 20)
    for b, n, axis in np.ndindex(2, 3, 2):
        fitted = np.polyval(np.polyfit(t, steps[b, n, :, axis], 3), t)
        np.testing.assert_allclose(fitted, steps[b, n, :, axis], atol=1e-4)

    torch.nn.init.normal_(refinement.offsets[-1].weight)
    assert np.abs(np.diff(refinement(content).detach().numpy() - steps, 4, axis=2)).max() > 1e-3


def test_without_lanes(head, street, names_without_gradient) -> None:
    bev = torch.rand(2, 8, 32, 32)
    none = head.targets([Annotations('a'), Annotations('b')])
    assert all(value.item() == 0 for value in head.loss(head(bev), none).values())
    assert names_without_gradient(head, bev, none, zeros_count=True) == []
    empty = head.targets([lanes_of(), Annotations('b')])
    losses = head.loss(head(bev), empty)
    assert losses['classification'].item() > 0 and losses['points'].item() == 0
    assert names_without_gradient(head, bev, empty, zeros_count=True) == []


def test_an_unlabelled_sample_changes_nothing(head, street) -> None:
    head.train()
    raw = {name: torch.rand_like(value) for name, value in head(torch.rand(2, 8, 32, 32)).items()}
    both = head.loss(raw, head.targets([street, Annotations('b')]))
    alone = head.loss({name: value[:1] for name, value in raw.items()}, head.targets([street]))
    torch.testing.assert_close(both, alone)


def test_evaluation_has_no_training_outputs(head) -> None:
    assert set(head.eval()(torch.rand(1, 8, 32, 32))) == {'logits', 'points'}


def test_every_parameter_learns(head, street, names_without_gradient) -> None:
    targets = head.targets([street, street])
    last = {
        f'decoder.refinements.{i}.{part}.0.{kind}'
        for i in range(len(head.decoder.refinements))
        for part in ('curve', 'offsets')
        for kind in ('weight', 'bias')
    }
    assert set(names_without_gradient(head, torch.rand(2, 8, 32, 32), targets)) <= last
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    assert names_without_gradient(head, torch.rand(2, 8, 32, 32), targets) == []


@pytest.mark.parametrize('cross_attention', ['deformable', 'plain'])
def test_overfits_one_batch(cross_attention, street, trunk_grid, overfit) -> None:
    torch.manual_seed(0)
    decoder = dict(DECODER, cross_attention=cross_attention)
    head = LaneHead(trunk_grid, 8, features=FEATURES, decoder=decoder)
    targets = head.targets([street, lanes_of(([[-10, -5], [10, 5]], 'divider'))])
    losses = overfit(head, torch.randn(2, 8, 32, 32), targets, 90, 6e-3)
    assert losses[-1] < 0.15 * losses[0], losses[::25]


@pytest.mark.parametrize(
    'wrong, word',
    [
        (dict(classes=('kerb',)), 'classes'), (dict(classes=()), 'classes'),
        (dict(features=dict(width=30)), 'heads'),
        (dict(decoder=dict(self_attention='none')), 'self_attention'),
        (dict(decoder=dict(cross_attention='sparse')), 'cross_attention'),
        (dict(decoder=dict(instance=3)), "did you mean 'instances'")],
)
def test_wrong_configuration_is_named(wrong, word, trunk_grid) -> None:
    with pytest.raises(ValueError, match=word):
        LaneHead(trunk_grid, 4, **wrong)


@pytest.mark.parametrize(
    'variant', [dict(), dict(cross_attention='plain', self_attention='full')], ids=['default', 'plain']
)
def test_export_agrees(variant, trunk_grid, assert_exports) -> None:
    decoder = dict(instances=4, points=3, layers=2, feedforward=16, **variant)
    head = LaneHead(trunk_grid, 8, features=dict(width=16, cell_m=3.0), decoder=decoder)
    assert 'GridSample' in assert_exports(head, torch.rand(1, 8, 32, 32))
