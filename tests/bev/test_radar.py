"""The radar encoder: who spreads where, two streams that start as one, masks, empty clouds, fixed sizes, the
exported graph."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from perception.bev.ops.rcs_spread import radii, spread_tables, spread_tables_reference
from perception.bev.pillars import decorate
from perception.bev.radar import RadarEncoder, describe_radar
from perception.bev.radar_streams import DualStream, PointAttention
from perception.bev.records import SpreadOptions
from perception.core.contracts import Batch, Frame
from perception.core.grid import BEVGrid
from perception.core.protocols import RADARS
from perception.deployment.export.operators import walk
from tests.export_check import export, open_session
from tests.helpers import GRID, PILLAR_GRID

SMALL = BEVGrid((-4.0, 4.0), (-3.0, 3.0), 1.0)


def make_targets(points, seed=0):
    """Random targets `(P, 8)` within 14 m, of all radars, some old."""
    rng = np.random.default_rng(seed)
    place = rng.uniform((-14, -14, 0.3), (14, 14, 0.9), (points, 3))
    rest = [
        rng.normal(0, 8, (points, 2)), rng.uniform(-5, 30, (points, 1)), rng.choice([0.0, 0.08], (points, 1)),
        rng.integers(0, 5, (points, 1))]
    return torch.as_tensor(np.concatenate([place, *rest], 1), dtype=torch.float32)


def make_batch(*points):
    clouds = tuple(make_targets(p, i) if isinstance(p, int) else p for i, p in enumerate(points))
    frames = tuple(Frame(f'sample-{i}', i, np.eye(4)) for i in range(len(clouds)))
    return Batch(
        frames, radar_points=clouds, radar_present_BR=torch.ones(len(clouds), len(RADARS), dtype=torch.bool)
    )


def make_radar(**options):
    torch.manual_seed(0)
    sizes = {
        'point_channels': (8,), 'channels': (8, 16), 'layers': (1, 1), 'out_channels': 12,
        'max_points_per_pillar': 4, 'export_sizes': {'points': 120, 'pillars': 100}}
    return RadarEncoder(PILLAR_GRID, GRID, **{**sizes, **options})


def open_gates(encoder):
    for block in encoder.streams.blocks:
        nn.init.normal_(block.gates)


def test_what_a_target_says_by_hand():
    """10 m/s ahead, 5 m/s to the right, 20 dBsm, 80 ms old."""
    target = torch.tensor([[1.5, 1.5, 0.5, 10, -5, 20, 0.08, 3]])
    assert describe_radar(target).tolist() == [[1.0, -0.5, 2.0, pytest.approx(0.08)]]
    features = decorate(target, torch.tensor([4 * 8 + 5]), torch.tensor([1]), SMALL, describe=describe_radar)
    torch.testing.assert_close(features, torch.tensor([[1.5, 1.5, 0.5, 1, -0.5, 2, 0.08, 0, 0, 0, 0, 0]]))


def rcs_map(grid, seed=0):
    rng = np.random.default_rng(seed)
    rcs = torch.as_tensor(rng.uniform(-10, 40, (2, grid.y_size * grid.x_size)), dtype=torch.float32)
    rcs[torch.as_tensor(rng.uniform(size=rcs.shape) < 0.7)] = -torch.inf
    rcs[1, 7:] = -torch.inf
    return rcs


@pytest.mark.parametrize('slots', [1, 3, 9])
def test_the_spread_equals_its_loops(slots):
    options = SpreadOptions(3, 0.2, slots)
    for fast, slow in zip(spread_tables(rcs_map(SMALL), SMALL, options),
                          spread_tables_reference(rcs_map(SMALL), SMALL, options), strict=True):
        torch.testing.assert_close(fast, slow)


def test_the_spread_by_hand():
    """A weak target reaches its own cell and the four beside it; a strong one at the far corner three cells
    along an axis."""
    rcs = torch.full((48,), -torch.inf)
    rcs[2 * 8 + 4] = -3.0
    index, weight = spread_tables(rcs[None], SMALL, SpreadOptions(3, 0.1, 4))
    reached = (index[0, :, 0] == 2 * 8 + 4).view(6, 8)
    assert reached.nonzero().tolist() == [[1, 4], [2, 3], [2, 4], [2, 5], [3, 4]]
    # sigma is half a cell
    assert weight[0, 2 * 8 + 4, 0] == 1 and weight[0, 1 * 8 + 4, 0] == pytest.approx(math.exp(-2))
    assert (index[0, :, 1:] == 48).all() and (weight[0, :, 1:] == 0).all()
    corner = radii(torch.full((48,), 30.0), SMALL, SpreadOptions(9, 0.1))[0]
    assert corner == pytest.approx(1 + 0.1 * 30 * (3.5 ** 2 + 2.5 ** 2) / (4 ** 2 + 3 ** 2))
    assert radii(torch.full((48,), 30.0), SMALL, SpreadOptions(2, 0.5)).max() == 2


@pytest.mark.parametrize('options', [{'spread': None}, {}, {'streams': {'blocks': 2}}])
@pytest.mark.parametrize('training', [True, False])
def test_empty_and_absent_radars_work(options, training):
    encoder = make_radar(**options).train(training)
    empty = make_batch(torch.zeros(0, 8), torch.full((3, 8), math.nan).index_fill(1, torch.tensor([7]), 2.0))
    bev = encoder(**encoder.prepare(empty)).bev_BCYX
    assert bev.shape == (2, 12, 16, 16) and bev.isfinite().all()
    gone = replace(make_batch(50, 50), radar_present_BR=torch.zeros(2, 5, dtype=torch.bool))
    assert torch.equal(encoder.prepare(gone)['slot_map'], encoder.prepare(empty)['slot_map'])
    with pytest.raises(ValueError, match='no radar points'):
        encoder.prepare(replace(empty, radar_points=None, radar_present_BR=None))


def test_a_missing_radar_is_never_read():
    encoder = make_radar(streams={'blocks': 1}).eval()
    targets = make_targets(60)
    batch = make_batch(targets)
    batch.radar_present_BR[0, 2] = False
    expected = encoder(**encoder.prepare(make_batch(targets[targets[:, 7] != 2]))).bev_BCYX
    torch.testing.assert_close(encoder(**encoder.prepare(batch)).bev_BCYX, expected)
    spoilt = targets.clone()
    spoilt[spoilt[:, 7] == 2, :7] = torch.nan
    torch.testing.assert_close(
        encoder(**encoder.prepare(replace(batch, radar_points=(spoilt,)))).bev_BCYX, expected
    )


def test_heights_are_moved_and_not_lost():
    encoder = make_radar()
    targets = make_targets(20)
    low, high = PILLAR_GRID.z_range_m
    targets[:, 2] = torch.tensor([high + 5, low - 5]).repeat(10)
    inside = PILLAR_GRID.contains(targets[:, :2]).sum()
    assert encoder.make_pillars(make_batch(targets)).rows_of_sample == ((0, int(inside)),)


@pytest.mark.parametrize('options', [{}, {'streams': {'blocks': 2}}])
def test_fixed_sizes_change_shapes_and_no_number(options):
    encoder = make_radar(**options).eval()
    if options:
        open_gates(encoder)
    batch = make_batch(70, 0, 3)
    with torch.no_grad():
        free = encoder(**encoder.prepare(batch)).bev_BCYX
        encoder.static = True
        inputs = encoder.prepare(batch)
        fixed = encoder(**inputs).bev_BCYX
    torch.testing.assert_close(fixed, free, rtol=1e-4, atol=1e-5)
    assert inputs['points'].shape == (360, 12) and inputs['slot_map'].shape == (3, 32 * 32)
    assert not options or inputs['sample_rows'].shape == (3, 120)


def test_samples_do_not_see_each_other():
    encoder = make_radar(streams={'blocks': 2}).eval()
    open_gates(encoder)
    both = encoder(**encoder.prepare(make_batch(40, 60))).bev_BCYX
    torch.testing.assert_close(
        both[:1], encoder(**encoder.prepare(make_batch(40))).bev_BCYX, rtol=1e-4, atol=1e-5
    )


def test_new_streams_change_nothing():
    one, two = make_radar().eval(), make_radar(streams={'blocks': 2}).eval()
    two.load_state_dict(one.state_dict(), strict=False)
    batch = make_batch(80)
    torch.testing.assert_close(
        two(**two.prepare(batch)).bev_BCYX, one(**one.prepare(batch)).bev_BCYX, rtol=0, atol=0
    )


def test_the_order_of_targets_does_not_matter_to_the_streams():
    torch.manual_seed(0)
    streams = DualStream(8, 2)
    for block in streams.blocks:
        nn.init.normal_(block.gates)
    points, xy = torch.randn(9, 8), torch.randn(9, 2) * 10
    rows, order = torch.arange(9)[None], torch.randperm(9)
    out = streams(points, xy, rows, torch.arange(9))
    torch.testing.assert_close(
        streams(points[order], xy[order], rows, torch.arange(9)), out[order], rtol=1e-4, atol=1e-5
    )


def test_distance_weighs_attention():
    """With one pair at the same place and one far away, queries and keys silent, the far point gets exp(-d^2
    / s^2)."""
    attention = PointAttention(2, 1, by_distance=True)
    for layer in (attention.query, attention.key):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    for layer in (attention.value, attention.out):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    # two metres apart, s starts at two metres
    squared = torch.tensor([[[0.0, 4.0], [4.0, 0.0]]])
    out = attention(torch.zeros(1, 2, 2), torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool), squared)
    far = math.exp(-1)
    torch.testing.assert_close(out[0, 0], torch.tensor([1 / (1 + far), far / (1 + far)]))


@pytest.mark.parametrize('options', [{'spread': None}, {}, {'streams': {'blocks': 2}}])
def test_every_parameter_learns_also_in_bf16(options):
    encoder = make_radar(**options)
    if 'streams' in options:
        open_gates(encoder)
    inputs = encoder.prepare(make_batch(90, 40))
    with torch.autocast('cpu', torch.bfloat16):
        bev = encoder(**inputs).bev_BCYX
    (bev.float() * torch.randn_like(bev.float())).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith('key.bias'), name  # it moves all logits alike


class Graph(nn.Module):
    def __init__(self, encoder, names):
        super().__init__()
        self.encoder, self.names = encoder, names

    def forward(self, *tensors):
        return self.encoder(**dict(zip(self.names, tensors, strict=True))).bev_BCYX


@torch.no_grad()
@pytest.mark.parametrize('options', [{}, {'streams': {'blocks': 1}}])
def test_exports_with_gathers_only(options, tmp_path):
    onnx, _ = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    encoder = make_radar(**options).eval()
    encoder.static = True
    if options:
        open_gates(encoder)
    inputs, path = encoder.prepare(make_batch(80)), tmp_path / 'radar.onnx'
    export(Graph(encoder, list(inputs)), inputs, path)
    assert walk(path) == []
    found = {node.op_type for node in onnx.load(path).graph.node}
    assert not {op for op in found if op.startswith('Scatter')} and 'Gather' in found
    session = open_session(path)
    for points in (80, 0, 100):
        inputs = encoder.prepare(make_batch(points))
        exported = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]
        np.testing.assert_allclose(exported, encoder(**inputs).bev_BCYX.numpy(), rtol=1e-3, atol=1e-4)


def test_real_radars(real_frames, real_infos):
    """Real frames: the radars that are there reach the map in the default sizes; most of the street stands
    still once the car's own motion is taken out; where the grid is lit there is a target."""
    from perception.datasets.reading.collate import collate
    from perception.datasets.reading.dataset import NuScenesDataset
    dataset = NuScenesDataset(
        real_frames, split='mini_val', infos=real_infos, sensors=('radar',), reading=dict(radar_sweeps=5)
    )
    batch = collate([dataset[0]], sensors=('radar',))['inputs']
    targets = batch.radar_points[0]
    assert batch.radar_present_BR.any() and set(targets[:, 7].tolist()) <= set(
        batch.radar_present_BR[0].nonzero()[:, 0].tolist()
    )
    assert targets[:, 3:5].norm(dim=1).median() < 1.0
    ground = {'x_range_m': (-51.2, 51.2), 'y_range_m': (-51.2, 51.2)}
    encoder = RadarEncoder(
        BEVGrid(**ground, cell_m=0.8, z_range_m=(-3.0, 5.0)), BEVGrid(**ground, cell_m=0.8), channels=(16,),
        layers=(1,), out_channels=8, streams={'blocks': 1}).eval()
    encoder.static = True
    inputs = encoder.prepare(batch)
    lit = (inputs['slot_map'] < 1500).flatten().nonzero()[:, 0]
    cells = (
        encoder.pillar_grid.to_cells(targets[encoder.pillar_grid.contains(targets[:, :2]), :2]).floor().long()
    )
    assert encoder.dropped_pillars == 0
    assert lit.tolist() == (cells[:, 1] * 128 + cells[:, 0]).unique().tolist()
    assert len(lit) > 20
    assert encoder(**inputs).bev_BCYX.isfinite().all()
