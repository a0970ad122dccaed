"""M3Net's own heads: boxes, map and occupancy that read the queries of the shared decoder."""
from __future__ import annotations

import os
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from perception.core import processes
from perception.core.contracts import Annotations, Boxes3D, MapSegmentation, Occupancy, OccupancyLabels
from perception.core.grid import BEVGrid
from perception.heads.detection import CenterHead, QueryBoxHead
from perception.heads.detection.decode import decode_codes
from perception.heads.detection.query_loss import MatchingCosts, iou_3d, match_boxes, pair_costs
from perception.heads.m3net import M3NetBridge
from perception.heads.map_segmentation import QueryMapHead
from perception.heads.matching import cheapest_pairs
from perception.heads.occupancy import QueryOccupancyHead
from perception.heads.queried import QueriedMap
from perception.model import MultiTaskPerception
from tests.export_check import assert_exports
from tests.heads.query_toys import (
    COARSE,
    FINE,
    GRID,
    MAP,
    QUERIED,
    WIDTH,
    Decoder,
    make_bridge,
    make_heads,
    shared,
)

VARIANTS = pytest.mark.parametrize('variant', ['transformer', 'mamba'])
each_head = pytest.mark.parametrize('task', QUERIED)


@pytest.fixture(scope='module')
def everything(boxed, mapped) -> Annotations:
    """Three boxes, a road with a crossing, and voxels: a floor, a block, a wall."""
    semantics = np.full((16, 16, 8), 17, dtype=np.uint8)
    semantics[:, :, 0], semantics[2:5, 3:5, 1:3], semantics[10:12, :, 1:6] = 11, 4, 15
    seen = np.ones_like(semantics)
    return Annotations('all', boxed.boxes, mapped.map_layers, OccupancyLabels(semantics, seen, seen))


@pytest.fixture(scope='module')
def learned(everything) -> tuple[Decoder, torch.Tensor, list[dict[str, float]]]:
    """Decoder and heads that have learned one sample by heart, its map, and the losses of every step."""
    decoder, bev = Decoder().train(), nn.Parameter(shared())
    steps = 45
    optimiser = torch.optim.Adam([*decoder.parameters(), bev], lr=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=steps)
    history = []
    for _ in range(steps):
        losses = decoder.losses(bev, [everything])
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        schedule.step()
        history.append({name: term.item() for name, term in losses.items()})
    return decoder.eval(), bev.detach(), history


@each_head
def test_every_loss_falls(learned, task: str) -> None:
    first, last = learned[2][0], learned[2][-1]
    own = [name for name in first if name.startswith(task)]
    assert len(own) == dict(detection=4, map_segmentation=2, occupancy=5)[task]
    assert all(last[name] < 0.3 * first[name] for name in own), {n: (first[n], last[n]) for n in own}


def test_learned_boxes_are_decoded(learned, everything) -> None:
    decoder, bev, _ = learned
    with torch.no_grad():
        found, = decoder.heads['detection'].decode(decoder.raw(bev)['detection'])
    truth = everything.boxes
    best = found.labels_M[:3].argsort()
    assert isinstance(found, Boxes3D) and found.labels_M[:3][best].tolist() == truth.labels_M.tolist()
    assert found.scores_M[2] > 0.4 and found.scores_M[3:].max(initial=0) < 0.2
    np.testing.assert_allclose(found.boxes_M9[best][:, :3], truth.boxes_M9[:, :3], atol=0.3)
    np.testing.assert_allclose(found.boxes_M9[best][:, 3:7], truth.boxes_M9[:, 3:7], rtol=0.15, atol=0.1)
    np.testing.assert_allclose(found.boxes_M9[best][:2, 7:], truth.boxes_M9[:2, 7:], atol=0.5)
    assert found.attributes_M[best].tolist() == [5, 2, -1]


def test_learned_map_and_voxels_are_decoded(learned, everything) -> None:
    decoder, bev, _ = learned
    with torch.no_grad():
        raw = decoder.raw(bev)
    head = decoder.heads['map_segmentation']
    segmentation, = head.decode(raw['map_segmentation'])
    masks = head.targets([everything]).masks_B6YX[0].bool().numpy()
    found = segmentation.probabilities_6YX > 0.5
    assert isinstance(segmentation, MapSegmentation)
    assert (found & masks).sum() > 0.7 * (found | masks).sum() > 0.7 * 100

    occupancy, = decoder.heads['occupancy'].decode(raw['occupancy'])
    assert isinstance(occupancy, Occupancy)
    truth = everything.occupancy.semantics_XYZ
    occupied = (truth != 17) | (occupancy.semantics_XYZ != 17)
    assert (occupancy.semantics_XYZ == truth)[occupied].mean() > 0.85


@VARIANTS
def test_every_parameter_learns(variant, everything) -> None:
    decoder = Decoder(variant).train()
    torch.manual_seed(3)
    asleep = ('channel_scaling', 'sampler', 'attention.offsets', 'attention.logits')
    for name, parameter in decoder.named_parameters():  # what starts at zero passes nothing on
        if any(part in name for part in asleep):
            parameter.data += torch.randn_like(parameter) * 0.3
    sum(decoder.losses(shared(2), [everything, Annotations('none')]).values()).backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_samples_without_labels_cost_nothing_and_empty_ones_are_learned(everything, make_boxes) -> None:
    decoder, bev = Decoder().train(), shared()
    nothing = decoder.losses(bev, [Annotations('none')])
    assert all(term.item() == 0 for term in nothing.values())
    sum(nothing.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in decoder.parameters())

    free = np.full((16, 16, 8), 17, dtype=np.uint8)
    empty = Annotations('empty', boxes=make_boxes([], []), occupancy=OccupancyLabels(
        free, np.ones_like(free), np.ones_like(free)))
    losses = decoder.losses(bev, [empty])
    assert losses['detection/box'].item() == losses['detection/attribute'].item() == 0
    assert min(losses[n].item() for n in ('detection/classification', 'occupancy/first_voxels')) > 0.01


def test_the_order_of_boxes_changes_nothing(everything) -> None:
    decoder, bev = Decoder().train(), shared()
    turned = replace(everything, boxes=everything.boxes.select(np.array([2, 0, 1])))
    one, other = decoder.losses(bev, [everything]), decoder.losses(bev, [turned])
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_assignment_by_hand() -> None:
    """The dearer first choice that leaves the other pair cheap; more boxes than queries; not a number."""
    assert [part.tolist() for part in cheapest_pairs(np.array([[1.0, 2.0], [1.5, 9.0]]))] == [[0, 1], [1, 0]]
    assert [part.tolist() for part in cheapest_pairs(np.array([[3.0, 1.0, 2.0]]))] == [[0], [1]]
    assert [part.tolist() for part in cheapest_pairs(np.array([[np.nan], [7.0]]))] == [[1], [0]]


def test_costs_of_pairs_by_hand() -> None:
    """Two cubes of two metres, one a metre ahead: a third of both together; the third stands above."""
    cube = [0.0, 0, 0, 2, 2, 2, 0, 0, 0]
    found = np.array([cube, [1.0, *cube[1:]], [0, 0, 2.0, *cube[3:]]])
    np.testing.assert_allclose(iou_3d(found, found[:1])[:, 0], [1, 1 / 3, 0], atol=1e-9)
    turned = np.array([[0, 0, 1.0, 4, 1, 2, np.pi / 2, 0, 0]])
    # 1 x 2 m of ground shared, and 1 m of height: 2 of 8 + 8 - 2
    np.testing.assert_allclose(iou_3d(found[:1], turned), 2 / 14)

    logits = np.zeros((3, 10))  # the focal cost of probability one half: -0.125 ln 2
    cost = pair_costs(logits, found, np.array([4]), found[:1], GRID, MatchingCosts())[:, 0]
    np.testing.assert_allclose(cost + 0.15 * 0.125 * np.log(2), [
        -0.25, 0.25 / 25.6 - 0.25 / 3, 0], atol=1e-9)


def raw_boxes(queries: int, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        'logits': torch.randn(2, queries, 10, generator=random),
        'box': torch.randn(2, queries, 10, generator=random),
        'attribute': torch.randn(2, queries, 8, generator=random),
        'cell': torch.randint(8, (2, queries, 2), generator=random).float(),
        'first_score': torch.rand(2, queries, 10, generator=random)}


def test_the_cheapest_of_all_assignments_is_found(boxed) -> None:
    head, raw = QueryBoxHead(GRID, WIDTH, 16), raw_boxes(5)
    targets, costs = head.targets([boxed, boxed]), MatchingCosts(1.0, 2.0, 3.0)
    pairs = match_boxes(raw, targets, GRID, costs)
    assert pairs.sample_T.tolist() == [0] * 3 + [1] * 3
    assert torch.equal(targets.sample_P[pairs.object_T], pairs.sample_T)
    corner = torch.stack([targets.column_P, targets.row_P], -1).numpy()
    for b in range(2):
        own = (targets.sample_P == b).numpy()
        truth = decode_codes(np.nan_to_num(targets.code_P10.numpy()), corner, GRID)[own]
        np.testing.assert_allclose(truth[:, :7], boxed.boxes.boxes_M9[:, :7], atol=1e-4)
        found = decode_codes(raw['box'][b].numpy(), raw['cell'][b].numpy(), GRID)
        cost = pair_costs(raw['logits'][b].numpy(), found, targets.label_P.numpy()[own], truth, GRID, costs)
        best = min(permutations(range(5), 3), key=lambda chosen: cost[chosen, range(3)].sum())
        query, box = pairs.query_T[3 * b:3 * b + 3], pairs.object_T[3 * b:3 * b + 3] - 3 * b
        assert query[box.argsort()].tolist() == list(best)


def test_losses_of_boxes_by_hand(make_boxes) -> None:
    """One query stands on the box but for 0.5 m of height; the code says its place from the query's cell."""
    head = QueryBoxHead(GRID, WIDTH, 16, losses=dict(classification=2.0, box=3.0))
    box = [1.6, -1.6, 1.0, 1.0, 1.0, 1.0, np.pi, 0.0, 0.0]  # in cell (column 4, row 3), at its centre
    targets = head.targets([Annotations('a', boxes=make_boxes([box], [9]))])
    raw = {name: value[:1] for name, value in raw_boxes(3).items()}
    raw['logits'] = torch.zeros(1, 3, 10)
    raw['cell'] = torch.tensor([[[0.0, 0], [5, 3], [7, 7]]])
    raw['box'] = torch.zeros(1, 3, 10)
    raw['box'][0, 1] = torch.tensor([-0.5, 0.5, 1.5, 0, 0, 0, 0, 1.0, 0, 0])  # a barrier: its heading turned
    losses = head.loss(raw, targets)
    assert losses['box'].item() == pytest.approx(3 * 0.5, abs=1e-5)
    # a quarter ln 2, weighted 0.25 for the one right class and 0.75 for 29 others
    expected = 2 * 0.25 * np.log(2) * (0.25 + 29 * 0.75)
    assert losses['classification'].item() == pytest.approx(expected, rel=1e-5)


def test_doubtful_boxes_count_by_their_weights(make_boxes) -> None:
    """One of weight 1/4 is matched; a query where a teacher was unsure (0) teaches nothing of that class."""
    head = QueryBoxHead(GRID, WIDTH, 16)
    boxes = make_boxes([[1.6, -1.6, 1, 1, 1, 1, 0, 0, 0], [-8.0, 8.0, 1, 1, 1, 1, 0, 0, 0]], [9, 9])
    boxes = replace(boxes, weights_M=np.array([0.25, 0], np.float32))
    targets = head.targets([Annotations('a', boxes=boxes)])
    raw = {name: value[:1] for name, value in raw_boxes(2).items()}
    raw['logits'], raw['box'] = torch.zeros(1, 2, 10), torch.zeros(1, 2, 10)
    raw['cell'] = torch.tensor([[[4.0, 3], [1, 6]]])
    raw['box'][0, 0] = torch.tensor([0.5, 0.5, 1.5, 0, 0, 0, 0, 1.0, 0, 0])  # half a metre too high
    losses = head.loss(raw, targets)
    # weights below one are divided by one; the matched query counts a quarter for all its classes
    assert losses['box'].item() == pytest.approx(0.25 * 0.5, abs=1e-6)
    expected = 0.25 * np.log(2) * (0.25 * (0.25 + 9 * 0.75) + 9 * 0.75)
    assert losses['classification'].item() == pytest.approx(expected, rel=1e-5)


def test_box_losses_divide_by_what_all_processes_have(boxed, monkeypatch) -> None:
    head, raw = QueryBoxHead(GRID, WIDTH, 16), raw_boxes(5)
    targets = head.targets([boxed, Annotations('none')])
    alone = head.loss(raw, targets)
    monkeypatch.setattr(processes, 'process_count', lambda: 2)
    monkeypatch.setattr(processes, 'summed', lambda count: count + 5)
    together = head.loss(raw, targets)
    for name in ('classification', 'box'):
        assert together[name].item() == pytest.approx(alone[name].item() * 3 / ((3 + 5) / 2))


def test_boxes_in_one_cell_are_all_learned(make_boxes) -> None:
    """A dense branch regresses one code a cell; queries stand for all."""
    boxes = [[1, 1, 0, 1, 1, 1, 0, 0, 0], [2, 2, 0, 1, 1, 1, 0, 0, 0]]
    pair = Annotations('a', boxes=make_boxes(boxes, [5, 5]))
    assert len(CenterHead(GRID, WIDTH).targets([pair]).label_P) == 1
    assert len(QueryBoxHead(GRID, WIDTH).targets([pair]).label_P) == 2


def test_score_is_that_of_the_first_heatmap_times_that_of_the_query() -> None:
    head, raw = QueryBoxHead(GRID, WIDTH, 16), {n: v[:1] for n, v in raw_boxes(2).items()}
    raw['first_score'] = torch.zeros(1, 2, 10)
    raw['first_score'][0, 0, 3], raw['first_score'][0, 1, 7] = 0.5, 0.9
    raw['logits'] = torch.full((1, 2, 10), 9.0)
    raw['logits'][0, 0, 3], raw['logits'][0, 1, 7] = 0.0, float(np.log(3))
    found, = head.decode(raw)
    np.testing.assert_allclose(found.scores_M, [0.675, 0.25], rtol=1e-6)
    assert found.labels_M.tolist() == [7, 3]


def test_each_strip_of_the_map_has_its_own_queries() -> None:
    """Rows by where their centres lie on the trunk's grid; beyond it the outer strips."""
    head = QueryMapHead(GRID, WIDTH, task_grid=BEVGrid((-12.8, 12.8), (-16.0, 16.0), 1.6))
    assert head.strip_edges(4) == [0, 6, 10, 14, 20] and head.strip_edges(1) == [0, 20]

    content, bev = torch.randn(1, 24, WIDTH), shared()
    before = head(QueriedMap(bev, content, GRID))['logits']
    content[0, 6 + 2] = torch.randn(WIDTH)  # class 2 of the second strip
    changed = (head(QueriedMap(bev, content, GRID))['logits'] != before)[0]
    assert changed.any(2).nonzero().tolist() == [[2, row] for row in range(6, 10)]


def test_a_mask_is_the_product_of_query_and_map() -> None:
    head, content, bev = QueryMapHead(GRID, WIDTH, task_grid=GRID), torch.randn(2, 6, WIDTH), shared(2)
    expected = torch.einsum('bkc,bcyx->bkyx', head.embedding(content), bev) / WIDTH ** 0.5
    found = head(QueriedMap(bev, content, GRID))['logits']
    torch.testing.assert_close(found, expected + head.bias_K[:, None, None])


def test_exports(tmp_path) -> None:
    """What places the queries and the heads; the layers between are exported by test_m3net.py.

    A cheap part of it always runs: test_query_voxels.py.
    """
    if not os.environ.get('PERCEPTION_EXPORT_ALL'):
        pytest.skip('exporting takes half a minute: set PERCEPTION_EXPORT_ALL=1')
    decoder = Decoder()
    decoder.bridge.layers = nn.ModuleList()
    used = assert_exports(decoder, [shared()], tmp_path, atol=2e-3)
    assert 'TopK' in used and not used & {'NonZero', 'Loop', 'Scan', 'If', 'Unique', 'Compress'}


def test_bfloat16_trains(everything) -> None:
    decoder, bev = Decoder().train(), shared(2).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        losses = decoder.losses(bev, [everything, Annotations('none')])
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters()) and bev.grad.any()


def test_samples_do_not_look_at_each_other() -> None:
    decoder, both = Decoder().eval(), shared(2)
    together, alone = decoder(both), decoder(both[1:])
    for name, value in alone.items():
        torch.testing.assert_close(together[name][1:], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(query_heads=('lanes',)), 'query_heads: .*lanes'), (dict(voxel_grid=None), 'voxel_grid: .*None'),
    (dict(voxel_grid=GRID), 'voxel_grid: expected a grid with heights'),
    (dict(query_heads=('detection',)), 'voxel_grid: expected where, and only where')])
def test_a_bridge_names_what_is_wrong(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_bridge(**options)


def test_heads_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match='peak_kernel'):
        QueryBoxHead(GRID, WIDTH, decoding=dict(peak_kernel=3))
    with pytest.raises(ValueError, match='voxel_grid: expected the space of the task_grid'):
        QueryOccupancyHead(WIDTH, COARSE)
    with pytest.raises(ValueError, match="heights: expected one of .*'all'"):
        QueryOccupancyHead(WIDTH, COARSE, dict(heights='all'), task_grid=FINE)
    with pytest.raises(ValueError, match='1 to 256 voxels'):
        M3NetBridge(GRID, WIDTH, QUERIED, queries=dict(voxels=257, map_strips=4), query_heads=QUERIED,
                    voxel_grid=COARSE)


@each_head
def test_a_head_wants_the_queries_of_its_own_grid(task: str) -> None:
    head = make_heads()[task]
    with pytest.raises(TypeError, match=f'{type(head).__name__} reads queries: .* found a Tensor'):
        head(shared())
    with pytest.raises(ValueError, match='own grid'):
        head(QueriedMap(shared(), torch.randn(1, 6, WIDTH), MAP, torch.zeros(1, 6, dtype=torch.int64)))


@pytest.mark.parametrize(('queried', 'head', 'message'), [
    ((), QueryBoxHead(GRID, WIDTH), r"heads\['detection'\]: QueryBoxHead reads queries, but gets a map"),
    (('detection',), CenterHead(GRID, WIDTH), 'CenterHead reads a map, but gets queries')])
def test_a_model_whose_bridge_and_heads_do_not_fit_is_not_built(queried, head, message) -> None:
    from perception.fusion.concat import ConcatFuser
    from perception.fusion.trunk import Trunk
    from tests.helpers import make_lidar

    bridge = M3NetBridge(GRID, WIDTH, ('detection',), query_heads=queried)
    with pytest.raises(ValueError, match=message):
        MultiTaskPerception({'lidar': make_lidar()}, ConcatFuser({'lidar': 12}, WIDTH),
                            Trunk(WIDTH, WIDTH, (16, 16), (1, 1)), {'detection': head}, bridge)
