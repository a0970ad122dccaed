"""M3Net's shared decoder: its gates, its queries and how they are written back, in both forms."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from perception.core import processes
from perception.core.config import read_config
from perception.core.contracts import Annotations
from perception.core.grid import BEVGrid
from perception.core.protocols import DETECTION_CLASSES, MAP_GRID, TASKS
from perception.heads.bridge import sine_positions
from perception.heads.detection import CenterHead
from perception.heads.m3net import M3NetBridge
from perception.heads.m3net.decoder import TaskChannelScaling
from perception.heads.m3net.queries import DetectionQueries, MapQueries, gather_cells, mark_cells
from perception.heads.m3net.writers import CellWriter, MaskWriter
from perception.heads.map_segmentation import MapSegmentationHead
from perception.heads.queried import Queries
from perception.registry import MODELS
from tests.export_check import assert_exports

ROOT = Path(__file__).resolve().parents[2]
GRID = BEVGrid((-12.8, 12.8), (-12.8, 12.8), 1.6)
SHAPE = GRID.shape_YX
DECODER = dict(layers=2, heads=4, points=2, feedforward=16, states=4)
QUERIES = dict(detection=12, map_strips=4, occupancy_stride=4)
VARIANTS = pytest.mark.parametrize('variant', ['transformer', 'mamba'])


def make(tasks: tuple[str, ...] = TASKS, queries: dict | None = None, **decoder: object) -> M3NetBridge:
    torch.manual_seed(0)
    return M3NetBridge(GRID, 16, tasks, dict(DECODER, **decoder), dict(QUERIES, **(queries or {})))


def shared(batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 16, *SHAPE, generator=torch.Generator().manual_seed(seed))


def awake(bridge: M3NetBridge) -> M3NetBridge:
    """As after some training: projections and gates that do something."""
    torch.manual_seed(3)
    for name, parameter in bridge.named_parameters():
        is_writer = name.startswith('writers.') and '.projection' in name
        if is_writer or '.channel_scaling.' in name or 'sampler' in name:
            parameter.data += torch.randn_like(parameter) * 0.3
    return bridge


def test_gate_with_w2_zero_and_bias_one_is_no_scaling() -> None:
    tokens = torch.randn(2, 5, 16)
    assert torch.equal(TaskChannelScaling(16)(tokens), torch.ones_like(tokens))


@VARIANTS
def test_at_first_the_whole_decoder_equals_one_without_gates(variant) -> None:
    scaled, plain = make(variant=variant).eval(), make(variant=variant, channel_scaling=False).eval()
    left = plain.load_state_dict(scaled.state_dict(), strict=False)
    assert not left.missing_keys and all('.channel_scaling.' in name for name in left.unexpected_keys)
    awake(plain), awake_like(scaled, plain)
    branches = dict.fromkeys(TASKS, shared())
    found, expected = scaled(branches), plain(branches)
    assert all(torch.equal(found[t], expected[t]) for t in TASKS)


def awake_like(bridge: M3NetBridge, other: M3NetBridge) -> None:
    bridge.load_state_dict(other.state_dict(), strict=False)


@VARIANTS
def test_gates_are_each_tasks_own(variant) -> None:
    """Half the gate, half what a task without queries gets; the other tasks stay as they were."""
    bridge, branches = make(variant=variant).eval(), dict.fromkeys(TASKS, shared())
    before = bridge(branches)
    bridge.layers[-1].channel_scaling['lanes'].layers[-1].bias.data.fill_(0.5)
    after = bridge(branches)
    torch.testing.assert_close(after['lanes'], before['lanes'] / 2)
    assert torch.equal(after['detection'], before['detection'])


def test_peaks_by_hand() -> None:
    queries = DetectionQueries(16, (4, 4), count=3, classes=('a', 'b', 'c'), sharp=('c',))
    logits = torch.full((1, 3, 4, 4), -9.0)
    # neighbours of one class: only the higher one is a peak
    logits[0, 0, 1, 1], logits[0, 0, 1, 2] = 3.0, 2.0
    logits[0, 2, 3, 0], logits[0, 2, 3, 1] = 1.0, 0.5  # a sharp class keeps both
    assert queries.peaks(logits).flatten().gt(0.5).nonzero().flatten().tolist() == [
        5, 2 * 16 + 12, 2 * 16 + 13]
    queries.heatmap = nn.Sequential(Fixed(logits))
    found, _, cells, scores = queries(torch.randn(1, 16, 4, 4))
    assert cells.tolist() == [[5, 12, 13]]
    expected = torch.tensor([[3.0, -torch.inf, -torch.inf], [-torch.inf, -torch.inf, 1.0],
                             [-torch.inf, -torch.inf, 0.5]]).sigmoid()
    torch.testing.assert_close(scores[0], expected)
    assert found.places_BQ2[0].tolist() == [[0.375, 0.375], [0.125, 0.875], [0.375, 0.875]]


@pytest.mark.parametrize('config', ['nuscenes/m3net_transformer', 'nuscenes/m3net_mamba'])
def test_at_full_size_barriers_are_peaks_and_people_and_cones_stand_side_by_side(config, make_boxes) -> None:
    """The heads' channels lie by groups there; a query's class and its loss go by names all the same."""
    model = read_config(ROOT / 'configs' / f'{config}.py').model.to_dict()
    small = dict(type='BEVGrid', x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8), cell_m=1.6)
    bridge = MODELS.build(model['bridge'] | dict(
        grid=small, in_channels=16, decoder=dict(layers=1, heads=4), queries=QUERIES))
    head = MODELS.build(model['heads']['detection'] | dict(grid=small, in_channels=16))

    # two neighbours of every class, the second less sure
    boxes = [[x, y, 0, 1, 1, 1, 0, 0, 0] for y in range(10) for x in (0.5, 2.1)]
    boxes = [[x, 1.6 * (y - 5) + 0.5, *rest] for x, y, *rest in boxes]
    targets = head.targets([Annotations('a', boxes=make_boxes(boxes, [n for n in range(10) for _ in '12']))])
    logits = torch.full((1, 10, *SHAPE), -20.0)
    for label in range(10):
        logits[0, label, label + 3, 8:10] = torch.tensor([20.0, 10.0])
    queries = bridge.query_generators['detection']
    found = (queries.peaks(logits)[0] > 0.5).sum((1, 2)).tolist()
    assert dict(zip(DETECTION_CLASSES, found, strict=True)) == dict.fromkeys(DETECTION_CLASSES, 1) | dict(
        pedestrian=2, traffic_cone=2)

    loss = bridge.loss({'detection': {'first_heatmap': logits}}, {'detection': targets})
    assert loss['detection/first_heatmap'].item() < 1e-3


def test_first_losses_divide_by_what_all_processes_have(boxed, mapped, monkeypatch) -> None:
    """Another process has 5 objects, or 5 labelled samples, more: the two share the sum of both."""
    bridge, annotations = make(), [Annotations('a', boxes=boxed.boxes, map_layers=mapped.map_layers)]
    targets = {task: head.targets(annotations) for task, head in heads().items()}
    raw = {'detection': {'first_heatmap': torch.zeros(1, 10, *SHAPE)},
           'map_segmentation': {'first_logits': torch.zeros(1, 6, *SHAPE)}}
    alone = bridge.loss(raw, targets)
    objects = (targets['detection'].heatmap_BCYX == 1).sum().item()

    monkeypatch.setattr(processes, 'process_count', lambda: 2)
    monkeypatch.setattr(processes, 'summed', lambda count: count + 5)
    shared_by_two = bridge.loss(raw, targets)
    for name, count in (('detection/first_heatmap', objects), ('map_segmentation/first_focal', 1)):
        assert shared_by_two[name].item() == pytest.approx(alone[name].item() * count / ((count + 5) / 2))


class Fixed(nn.Module):
    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.output


def test_map_queries_take_the_best_free_cell_of_their_strip() -> None:
    torch.manual_seed(0)
    queries, bev = MapQueries(16, (8, 4), strips=4, classes=2, heads=4).eval(), torch.randn(1, 16, 8, 4)
    _, logits = queries(bev, None)
    free = queries(bev, None)[0].places_BQ2[0]
    best = logits[0, 1, 2:4].flatten().argmax().item()  # class 1 in the second strip of two rows
    assert free[3].tolist() == [(best % 4 + 0.5) / 4, (2 + best // 4 + 0.5) / 8]
    moved = queries(bev, torch.tensor([[2 * 4 + best]]))[0].places_BQ2[0]
    assert moved[3].tolist() != free[3].tolist() and torch.equal(moved[4:], free[4:])


def test_cells_are_read_and_marked_where_they_are() -> None:
    bev, cell = torch.arange(24.0).view(1, 2, 3, 4), torch.tensor([[5, 11, 5]])
    assert gather_cells(bev, cell)[0].tolist() == [[5, 17], [11, 23], [5, 17]]
    assert mark_cells(cell, 12)[0].nonzero().flatten().tolist() == [5, 11]


def queries_at(cells: list[int], content: torch.Tensor) -> Queries:
    y, x = SHAPE
    places = torch.tensor([[[(c % x + 0.5) / x, (c // x + 0.5) / y] for c in cells]])
    return Queries(content, sine_positions(places, 16), places)


def test_detection_queries_lie_on_their_cells() -> None:
    """The product of one-hots equals a scatter that adds."""
    writer, content, cells = CellWriter(16, SHAPE), torch.randn(1, 4, 16), [0, 37, 255, 37]
    writer.projection.weight.data = torch.eye(16)
    found = writer(queries_at(cells, content), torch.zeros(1, 16, *SHAPE))
    expected = (
        torch.zeros(1, 16, 256).index_add(2, torch.tensor(cells), content.transpose(1, 2)).view(1, 16, *SHAPE)
    )
    torch.testing.assert_close(found, expected)


def test_map_queries_are_written_in_their_strip_alone() -> None:
    torch.manual_seed(0)
    writer, branch = MaskWriter(16, 4), torch.randn(1, 16, *SHAPE)
    nn.init.eye_(writer.projection.weight)
    content = torch.zeros(1, 8, 16)
    content[0, 2:4] = torch.randn(2, 16)  # two classes in the second of four strips
    found = writer(queries_at([0] * 8, content), branch)
    rows = found.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert rows == [4, 5, 6, 7]
    embedding = writer.mask_embedding(content)[0, 2:4]
    masks = torch.einsum('kc,cyx->kyx', embedding, branch[0, :, 4:8] / 4).sigmoid()
    torch.testing.assert_close(found[0, :, 4:8], torch.einsum('kyx,kc->cyx', masks, content[0, 2:4]))


@VARIANTS
@pytest.mark.parametrize('stride', [1, 2])
def test_maps_in_maps_out(variant, stride) -> None:
    bridge, branches = awake(make(variant=variant, stride=stride)), dict.fromkeys(TASKS, shared())
    found = bridge.train()(branches)
    assert set(found) == {*TASKS, 'detection.first_heatmap', 'map_segmentation.first_logits'}
    assert all(found[t].shape == (2, 16, *SHAPE) for t in TASKS)
    assert found['detection.first_heatmap'].shape == (2, 10, *SHAPE)
    assert found['map_segmentation.first_logits'].shape[1] == 6
    assert set(bridge.eval()(branches)) == set(TASKS)


@VARIANTS
@pytest.mark.parametrize('tasks', [('lanes',), ('detection',), ('map_segmentation', 'lanes'), ('occupancy',)])
def test_any_set_of_tasks(variant, tasks) -> None:
    branches = dict.fromkeys((*tasks, 'other'), shared())
    found = make(variant=variant, tasks=tasks).eval()(branches)
    assert set(found) == {*tasks, 'other'} and found['other'] is branches['other']


@VARIANTS
def test_samples_do_not_look_at_each_other(variant) -> None:
    bridge, both = awake(make(variant=variant)).eval(), shared(2)
    together, alone = bridge(dict.fromkeys(TASKS, both)), bridge(dict.fromkeys(TASKS, both[1:]))
    for task in TASKS:
        torch.testing.assert_close(together[task][1:], alone[task], atol=1e-4, rtol=1e-4)


def heads() -> dict[str, nn.Module]:
    return {'detection': CenterHead(GRID, 16, 8), 'map_segmentation': MapSegmentationHead(GRID, 16, 8)}


def total_loss(bridge: M3NetBridge, boxed: Annotations, mapped: Annotations) -> dict[str, torch.Tensor]:
    annotations = [Annotations('both', boxes=boxed.boxes, map_layers=mapped.map_layers), Annotations('none')]
    targets = {task: head.targets(annotations) for task, head in heads().items()}
    found = bridge.train()(dict.fromkeys(TASKS, shared()))
    raw = {'detection': {'first_heatmap': found['detection.first_heatmap']},
           'map_segmentation': {'first_logits': found['map_segmentation.first_logits']}}
    weight = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(5))
    return bridge.loss(raw, targets) | {'maps': sum((found[t] * weight).sum() for t in TASKS)}


@VARIANTS
def test_every_parameter_learns(variant, boxed, mapped) -> None:
    """At first only what stands behind the zero projections and the zero weights of the gates sleeps; then
    everything learns."""
    bridge = make(variant=variant)
    sum(total_loss(bridge, boxed, mapped).values()).backward()
    moving = {n for n, p in bridge.named_parameters() if p.grad is not None and p.grad.any()}
    first = ('input_projection', 'output_projection', 'query_generators.detection.heatmap')
    assert {n for n, _ in bridge.named_parameters() if n.startswith(first)} <= moving
    assert {f'writers.{t}.projection.weight' for t in TASKS[:3]} <= moving
    assert {f'layers.1.channel_scaling.{t}.layers.2.weight' for t in TASKS} <= moving
    awake(bridge).zero_grad(set_to_none=True)
    sum(total_loss(bridge, boxed, mapped).values()).backward()
    assert [n for n, p in bridge.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_first_predictions_have_losses(boxed, mapped) -> None:
    """A heatmap that is right costs less than one that is not; samples without labels cost nothing."""
    bridge, detection = make(), heads()['detection']
    annotations = [Annotations('a', boxes=boxed.boxes, map_layers=mapped.map_layers)]
    targets = {'detection': detection.targets(annotations)}
    heat = targets['detection'].heatmap_BCYX

    def cost(logits: torch.Tensor) -> float:
        losses = bridge.loss({'detection': {'first_heatmap': logits}}, targets)
        return losses['detection/first_heatmap'].item()

    assert (heat == 1).any() and cost((heat == 1).float() * 20 - 10) < 0.01 < 1 < cost(torch.zeros_like(heat))
    assert bridge.loss({'detection': {}}, targets) == {}


def test_another_detection_grid_is_named(boxed) -> None:
    fine = CenterHead(GRID, 16, 8, upsample=2)
    with pytest.raises(ValueError, match='upsample=1'):
        make().loss(
            {'detection': {'first_heatmap': torch.zeros(1, 10, *SHAPE)}}, {'detection': fine.targets([boxed])}
        )


def test_another_map_grid_is_named(mapped) -> None:
    moved = BEVGrid((-49.0, 51.0), (-50.0, 50.0), 0.5)  # as many cells, a metre further
    targets = MapSegmentationHead(GRID, 16, 8, task_grid=moved).targets([mapped])
    with pytest.raises(ValueError, match=r'map_grid: expected .*\(-49.0, 51.0\)'):
        make().loss({'map_segmentation': {'first_logits': torch.zeros(1, 6, *SHAPE)}}, {
            'map_segmentation': targets})


@pytest.mark.parametrize(
    'config', ['world/m3net_transformer', 'nuscenes/m3net_transformer', 'nuscenes/m3net_mamba',
               'nuscenes/stages/m3net_2_map', 'world/m3net_queries', 'nuscenes/m3net_queries'])
def test_first_map_lies_where_the_labels_do(config: str) -> None:
    model = read_config(ROOT / 'configs' / f'{config}.py').model

    def built(options: dict | None) -> BEVGrid:
        return MODELS.build(dict(options)) if options else MAP_GRID

    assert built(model.bridge.get('map_grid')) == built(model.heads.map_segmentation.get('task_grid'))


@VARIANTS
def test_bfloat16_agrees(variant) -> None:
    """Cells chosen by rounded scores may differ, so the lanes' branch, which has no queries, is compared."""
    bridge, branches = make(variant=variant).eval(), dict.fromkeys(TASKS, shared())
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        half = bridge(branches)
    full = bridge(branches)
    assert all(torch.isfinite(half[t]).all() for t in TASKS)
    assert (half['lanes'].float() - full['lanes']).abs().mean() < 0.03 * full['lanes'].abs().mean()


@pytest.mark.parametrize(('variant', 'stride'), [('transformer', 1), ('mamba', 2)])
def test_exports(variant, stride, tmp_path) -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bridge = awake(make(variant=variant, stride=stride))

        def forward(self, bev: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.bridge(dict.fromkeys(TASKS, bev)).values())

    used = assert_exports(Decoder(), [shared(1)], tmp_path, atol=2e-3)
    assert {'TopK', 'ArgMax'} <= used and not used & {
        'NonZero', 'Loop', 'Scan', 'ScatterND', 'ScatterElements'}


@pytest.mark.parametrize(('options', 'message'), [
    (dict(tasks=('driving',)), 'driving'), (dict(variant='rnn'), 'rnn'), (dict(stride=3), 'stride'),
    (dict(queries=dict(map_strips=5)), '16 rows'),
    (dict(queries=dict(occupancy_stride=5)), 'occupancy_stride'),
    (dict(layer=1), "did you mean 'layers'")])
def test_errors_name_what_is_wrong(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_missing_branch_is_named() -> None:
    with pytest.raises(ValueError, match='no branch for lanes'):
        make()(dict.fromkeys(TASKS[:3], shared()))
    with pytest.raises(ValueError, match='expected one map for all tasks'):
        make()({task: shared(seed=i) for i, task in enumerate(TASKS)})


def test_is_registered() -> None:
    grid = dict(type='BEVGrid', x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8), cell_m=1.6)
    options = dict(type='M3NetBridge', grid=grid, in_channels=16, decoder=DECODER, queries=QUERIES)
    assert isinstance(MODELS.build(options), M3NetBridge)




def test_queries_for_objects_of_other_classes() -> None:
    """A channel a class; every cell of a crowded one may be a peak, as of pedestrians and cones."""
    classes = {'pole': dict(categories=['pole'], crowded=True), 'car': dict(categories=['vehicle.car'])}
    bridge = M3NetBridge(GRID, 16, TASKS, DECODER, QUERIES, classes=classes)
    generator = bridge.query_generators['detection']
    assert generator.heatmap[-1].out_channels == 2
    assert generator.sharp_K11.flatten().tolist() == [True, False]
    ten = M3NetBridge(GRID, 16, TASKS, DECODER, QUERIES).query_generators['detection']
    assert [DETECTION_CLASSES[i] for i in ten.sharp_K11.flatten().nonzero()[:, 0].tolist()] == [
        'pedestrian', 'traffic_cone']
