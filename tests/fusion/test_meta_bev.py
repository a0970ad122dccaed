"""The meta-BEV decoder: absence equals never having had the sensor, one softmax over all points, export for
every subset."""
from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from perception.bev.ops.deformable_attention import cell_centres
from perception.bev.records import SensorFeature
from perception.core.grid import BEVGrid
from perception.deployment.export.operators import walk
from perception.fusion.experts import HardFFN, PlainFFN, RoutedFFN
from perception.fusion.meta_bev import CrossModalAttention, EvolvingLayer, MetaBEV
from perception.fusion.trunk import Trunk
from perception.registry import MODELS
from tests import helpers
from tests.export_check import export, open_session

GRID = BEVGrid((-8.0, 8.0), (-6.0, 6.0), 2.0)
CHANNELS = {'camera': 3, 'lidar': 5, 'radar': 2}
SUBSETS = [set(s) for n in (1, 2, 3) for s in itertools.combinations(CHANNELS, n)]


def stir(module):
    """Offsets and weights that depend on the query."""
    for name, parameter in module.named_parameters():
        if name.endswith(('offsets.weight', 'logits.weight', 'logits.bias')):
            nn.init.normal_(parameter, std=0.4)
    return module


def make(sensors=tuple(CHANNELS), **options):
    torch.manual_seed(0)
    options = {'width': 16, 'heads': 4, 'points': 2, 'cross_layers': 2, 'self_layers': 1, **options}
    return stir(MetaBEV({s: CHANNELS[s] for s in sensors}, 7, GRID, **options))


def make_maps(batch=2, sensors=tuple(CHANNELS)):
    generator = torch.Generator().manual_seed(3)
    return {s: torch.randn(batch, CHANNELS[s], 6, 8, generator=generator) for s in sensors}


def everyone(batch=2, sensors=tuple(CHANNELS)):
    return {s: torch.ones(batch, dtype=torch.bool) for s in sensors}


@pytest.mark.parametrize('there', SUBSETS, ids=lambda names: '+'.join(sorted(names)))
def test_absence_by_mask_equals_never_having_had_the_sensor(there):
    """NaN in the absent maps; the same weights without these sensors' maps give the same, in values and
    gradients."""
    outputs = []
    for masked in (True, False):
        decoder, maps = make(), make_maps()
        if masked:
            present = {s: torch.full((2,), s in there) for s in maps}
            maps = {s: m if s in there else torch.full_like(m, torch.nan) for s, m in maps.items()}
        else:
            maps = {s: m for s, m in maps.items() if s in there}
            present = everyone(sensors=there)
        for m in maps.values():
            m.requires_grad_()
        out = decoder(maps, present)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        gradients = {
            n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in decoder.named_parameters()
        }
        outputs.append([out, *gradients.values(), *(maps[s].grad for s in sorted(there))])
        assert all((maps[s].grad == 0).all() for s in set(maps) - there)
    # sums over three sensors round otherwise than over two
    for found, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4 * max(float(expected.detach().abs().max()), 0.3)
        )


def test_presence_is_a_mask_per_sample():
    decoder, maps, present = make().eval(), make_maps(), everyone()
    present['lidar'][0] = present['camera'][1] = present['radar'][1] = False
    spoilt = {s: m.clone() for s, m in maps.items()}
    spoilt['lidar'][0] = spoilt['camera'][1] = spoilt['radar'][1] = torch.nan
    out = decoder(spoilt, present)
    first = decoder({s: maps[s][:1] for s in ('camera', 'radar')}, everyone(1))
    second = decoder({'lidar': maps['lidar'][1:]}, everyone(1))
    torch.testing.assert_close(out, torch.cat([first, second]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(out[:1], decoder({s: m[:1] for s, m in maps.items()}, everyone(1)))


def test_a_sample_without_any_sensor_is_finite_and_reads_nothing():
    decoder = make()
    maps, present = make_maps(), {s: torch.tensor([False, True]) for s in CHANNELS}
    outputs = []
    for filling in (torch.nan, 5.0):
        for m in maps.values():
            m[0] = filling
        decoder.zero_grad()
        out = decoder(maps, present)
        out.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in decoder.parameters())
        outputs.append(out)
    assert torch.equal(*outputs) and outputs[0].isfinite().all()


def test_one_softmax_over_all_present_points():
    torch.manual_seed(0)
    attention = stir(CrossModalAttention(16, tuple(CHANNELS), heads=4, points=3))
    queries, shapes = torch.randn(2, 48, 16), dict.fromkeys(CHANNELS, (6, 8))
    present = everyone()
    present['lidar'][1] = False
    places, weights = attention.places_and_weights(queries, cell_centres((6, 8)), shapes, present)
    assert places.shape == (2, 48, 4, 3, 3, 2)
    torch.testing.assert_close(weights.sum((3, 4)), torch.ones(2, 48, 4))
    assert (weights[1, :, :, 1] == 0).all() and (weights[0] > 0).all()
    alone = attention.places_and_weights(queries, cell_centres((6, 8)), {'camera': (6, 8)}, present)[1]
    shared = weights[:, :, :, :1] / weights[:, :, :, :1].sum(-1, keepdim=True)
    # the joint softmax only rescales each sensor's own
    torch.testing.assert_close(alone, shared)


def test_the_formula_with_one_point():
    """One head, one point, zero offsets: the result is the present sensors' values at the query's own cell,
    by softmax."""
    attention = CrossModalAttention(4, ('camera', 'lidar'), heads=1, points=1)
    for sampler in attention.samplers.values():
        nn.init.zeros_(sampler.offsets.bias)
    attention.samplers['lidar'].logits.bias.data[:] = 2.0
    maps = {s: torch.randn(1, 4, 3, 3) for s in ('camera', 'lidar')}
    share = torch.tensor([0.0, 2.0]).softmax(0)
    for there, (a, b) in (((True, True), share), ((True, False), (1, 0)), ((False, True), (0, 1))):
        present = dict(zip(maps, (torch.tensor([t]) for t in there), strict=True))
        mixed = sum(w * attention.value(m) for w, m in zip((a, b), maps.values(), strict=True))
        expected = attention.out(mixed.flatten(2).transpose(1, 2))
        torch.testing.assert_close(
            attention(torch.randn(1, 9, 4), cell_centres((3, 3)), maps, present), expected, rtol=1e-4,
            atol=1e-5)


def test_a_layer_is_the_residual_block_of_the_paper():
    torch.manual_seed(0)
    layer = stir(EvolvingLayer(8, 2, 2, PlainFFN()(8)))
    x, position, shape = torch.randn(2, 12, 8), torch.randn(1, 12, 8), (3, 4)
    own = layer.norm_attention(x).transpose(1, 2).unflatten(2, shape)
    read = x + layer.attention(layer.norm_attention(x) + position, cell_centres(shape), [own])
    torch.testing.assert_close(layer(x, position, shape, {}, {}), read + layer.ffn(layer.norm_ffn(read)))


FFNS = [PlainFFN(), RoutedFFN(experts=4, top=2, balance=0.01), HardFFN(('a', 'b'))]


@pytest.mark.parametrize('ffn', FFNS, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize('stride', [1, 2])
def test_shapes_and_learning_also_in_bf16(ffn, stride):
    decoder = make(ffn=ffn, query_stride=stride)
    assert len(decoder.layers) == 3 and [layer.cross for layer in decoder.layers] == [True, True, False]
    present = everyone()
    present['camera'][0] = False
    with torch.autocast('cpu', torch.bfloat16):
        out = decoder(make_maps(), present)
    assert out.shape == (2, 7, 6, 8) and decoder.queries_CYX.shape == (16, 6 // stride, 8 // stride)
    (out.float() * torch.randn(out.shape)).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert (
            parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0
        ), name


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match='query_stride 4'):
        make(query_stride=4)
    with pytest.raises(ValueError, match='cross-modal'):
        make(cross_layers=0)
    with pytest.raises(ValueError, match='at most 3 task_layers, found 4'):
        make(ffn=HardFFN(('a',), task_layers=4))


def test_builds_from_a_configuration():
    config = dict(
        type='MetaBEV', in_channels={'camera': 3, 'lidar': 5}, out_channels=8, width=16, heads=4,
        query_stride=2, grid=dict(type='BEVGrid', x_range_m=(-8, 8), y_range_m=(-6, 6), cell_m=2),
        ffn=dict(type='RoutedFFN', tasks=('detection', 'lanes'), task_layers=2, balance=0.01))
    decoder = MODELS.build(config)
    maps = make_maps(sensors=('camera', 'lidar'))
    features = {sensor: SensorFeature(bev) for sensor, bev in maps.items()}
    found = decoder.fuse_by_task(features, everyone(), decoder.tasks)
    assert {task: tuple(bev.shape) for task, bev in found.items()} == {
        'detection': (2, 8, 6, 8), 'lanes': (2, 8, 6, 8)}
    assert [len(layer.ffn.gates) for layer in decoder.layers] == [1, 1, 1, 1, 2, 2]
    assert decoder.layers[0].ffn is not decoder.layers[1].ffn


BY_TASK = {
    'routed': RoutedFFN(experts=4, top=2, tasks=('a', 'b'), task_layers=2),
    'hard': HardFFN(('a', 'b'), task_layers=2)}


@pytest.mark.parametrize('kind', BY_TASK)
def test_the_last_layers_are_each_tasks_own(kind):
    """A task's gate or expert moves its map alone; layers before run once, those of the tasks once a task."""
    decoder, features = make(ffn=BY_TASK[kind]).eval(), {s: SensorFeature(m) for s, m in make_maps().items()}
    calls = [0] * len(decoder.layers)
    for i, layer in enumerate(decoder.layers):
        layer.register_forward_hook(lambda *_, i=i: calls.__setitem__(i, calls[i] + 1))
    before = decoder.fuse_by_task(features, everyone(), ('a', 'b'))
    assert calls == [1, 2, 2] and not torch.equal(before['a'], before['b'])

    ffn = decoder.layers[-1].ffn
    own = ffn.gates[0] if kind == 'routed' else ffn.experts['a'].layers[0]
    own.bias.data += torch.linspace(-3, 3, len(own.bias))
    after = decoder.fuse_by_task(features, everyone(), ('a', 'b'))
    assert torch.equal(after['b'], before['b']) and not torch.allclose(after['a'], before['a'])
    with pytest.raises(ValueError, match='fuse_by_task'):
        decoder(make_maps(), everyone())


class Graph(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, *tensors):
        names = tuple(self.decoder.input_projections)
        return self.decoder(
            dict(zip(names, tensors, strict=False)), dict(zip(names, tensors[len(names) :], strict=True))
        )


class LanesHead(helpers.SquareHead):
    """Another task."""

    task = 'lanes'


def test_a_tasks_loss_reaches_its_own_gate_in_the_whole_model():
    tasks = ('map_segmentation', 'lanes')
    ffn = RoutedFFN(experts=4, top=2, tasks=tasks, task_layers=1)
    heads = {'map_segmentation': helpers.SquareHead(16), 'lanes': LanesHead(16)}
    model = make_perception(heads, ffn=ffn).train()
    losses = model.loss(two_sensors(), [SimpleNamespace(token='four')] * 2)
    losses['loss/lanes/square'].backward()
    gates = model.fuser.layers[-1].ffn.gates
    assert gates[0].weight.grad is None and gates[1].weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=r"tasks \('map_segmentation',\)"):
        make_perception(ffn=ffn)


@torch.no_grad()
@pytest.mark.parametrize('ffn', FFNS[:2], ids=lambda f: type(f).__name__)
def test_one_graph_serves_every_subset(ffn, tmp_path):
    onnx, _ = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    decoder, path = make(ffn=ffn, query_stride=2).eval(), tmp_path / 'meta_bev.onnx'
    graph, maps = Graph(decoder).eval(), make_maps(1)
    names = [*maps, *(f'{s}_present' for s in maps)]
    export(graph, dict(zip(names, (*maps.values(), *everyone(1).values()), strict=True)), path)
    assert walk(path) == []
    session = open_session(path)
    assert sum(node.op_type == 'GridSample' for node in onnx.load(path).graph.node) == 2 * 3 + 1
    for there in [set(), *SUBSETS]:
        inputs = (
            *(m if s in there else m * 1e3 for s, m in maps.items()),
            *(torch.tensor([s in there]) for s in maps))
        output = session.run(
            None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        )[0]
        torch.testing.assert_close(torch.from_numpy(output), graph(*inputs), rtol=1e-3, atol=1e-4)


def make_perception(heads=None, **options):
    """LiDAR and radars through the whole model."""
    from perception.model import MultiTaskPerception
    from perception.preprocessor import BatchPreprocessor
    from tests.bev.test_radar import make_radar
    encoders = {'lidar': helpers.make_lidar(), 'radar': make_radar()}
    fuser = stir(
        MetaBEV(
            {'lidar': 12, 'radar': 12}, 16, helpers.GRID, width=16, heads=2, points=2, query_stride=2,
            **options)
    )
    trunk = Trunk(16, 16, channels=(16,), layers=(1,), strides=(1,))
    return MultiTaskPerception(encoders, fuser, trunk, heads or {'map_segmentation': helpers.SquareHead(16)},
                               data_preprocessor=BatchPreprocessor())


def two_sensors(**present):
    from tests.bev.test_radar import make_targets
    batch = helpers.make_batch(samples=2)
    radars = torch.ones(2, 5, dtype=torch.bool)
    batch = replace(batch, images_BN3HW=None, K_BN33=None, ego_T_cam_BN44=None, camera_present_BN=None,
                    radar_points=(make_targets(50), make_targets(60, 1)), radar_present_BR=radars)
    return replace(batch, **present)


def test_the_whole_model_learns_with_sensors_switched_off():
    """Sample 0 lacks the LiDAR, sample 1 the radars: all parameters learn, and the balance term is among the
    losses."""
    model = make_perception(ffn=RoutedFFN(experts=2, top=1, balance=0.1)).train()
    batch = two_sensors(lidar_present_B=torch.tensor([False, True]),
                        radar_present_BR=torch.tensor([True, False])[:, None].repeat(1, 5))
    losses = model.loss(batch, [SimpleNamespace(token='four')] * 2)
    assert set(losses) == {'loss/map_segmentation/square', 'loss/network/load_balance'}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_the_whole_model_ignores_a_sensor_that_is_off():
    model = make_perception().eval()
    off = two_sensors(lidar_present_B=torch.tensor([False, False]))
    other = replace(off, lidar_points=tuple(points * 0.5 for points in off.lidar_points))
    name = 'map_segmentation.logits'
    assert torch.equal(model(off)[name], model(other)[name])
    assert not torch.equal(model(off)[name], model(two_sensors())[name])
