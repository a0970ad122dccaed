"""Convolutions over active cells: tables by hand, rows against loops and the masked twin, values and
gradients, few and no points, spconv, the exported graph."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from perception.bev.sparse.maps import ConvNorm, RowMap, masked_of_slots, rows_of_slots
from perception.bev.sparse.places import Places
from perception.bev.sparse.spconv_map import SpconvMap
from perception.bev.sparse.table_conv import table_conv, table_conv_reference
from perception.bev.sparse_lidar import SparseLidarEncoder
from perception.core.grid import BEVGrid
from tests.export_check import assert_exports
from tests.helpers import GRID, GROUND, PILLAR_GRID, make_batch

FINE = BEVGrid(**GROUND, cell_m=0.4)


def make_encoder(pillar_grid: BEVGrid = FINE, **options: object) -> SparseLidarEncoder:
    """Pillars of 0.4 m in three sparse stages to 1.6 m, a dense one at 3.2 m."""
    torch.manual_seed(0)
    sizes = {
        'point_channels': (6,), 'channels': (6, 8, 10, 12), 'layers': (1, 1, 1, 1), 'out_channels': 12,
        'max_points_per_pillar': 8, 'export_sizes': {'points': 600, 'pillars': 600}}
    return SparseLidarEncoder(pillar_grid, GRID, **{**sizes, **options})


def random_slots(samples: int = 2, shape: tuple[int, int] = (9, 7), share: float = 0.3):
    """Pillars in a random order, and a slot map that names them."""
    torch.manual_seed(1)
    active = torch.rand(samples, shape[0] * shape[1]) < share
    m = int(active.sum())
    slots = torch.full(active.shape, m, dtype=torch.int32)
    slots[active] = torch.randperm(m, dtype=torch.int32)
    return torch.randn(m, 4), slots


# -------------------------------------------------------------------- tables

def test_tables_by_hand():
    """Cells (0, 0), (0, 1) and (2, 2) of a 3 x 3 map; halved, all four cells of 2 x 2 but the lower left."""
    places = Places(torch.tensor([0, 1, 8]), (1, 3, 3))
    none = 3
    assert places.beside.read.tolist() == [
        [none] * 4 + [0, 1] + [none] * 3, [none] * 3 + [0, 1] + [none] * 4, [none] * 4 + [2] + [none] * 4]

    outputs, tables = places.halved
    assert outputs.cells_M.tolist() == [0, 1, 3] and outputs.shape_BYX == (1, 2, 2)
    # output (0, 1) lies over column 2 and reads column 1 at its left
    assert tables.read.tolist() == [
        [none] * 4 + [0, 1] + [none] * 3, [none] * 3 + [1] + [none] * 5, [none] * 4 + [2] + [none] * 4]


def test_a_sample_never_reads_another():
    places = Places(torch.tensor([8, 9]), (2, 3, 3))  # the last cell of one map, the first of the next
    for tables in (places.beside, places.halved[1]):
        assert (tables.read < 2).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(9, 7), (4, 8), (1, 1)])
def test_who_reads_a_row_is_who_is_written_by_it(stride, shape):
    rows, slots = random_slots(shape=shape, share=0.5)
    places = rows_of_slots(rows, slots, shape).places
    outputs, tables = (places, places.beside) if stride == 1 else places.halved
    read = {(int(i), o, k) for o, row in enumerate(tables.read) for k, i in enumerate(row) if i < len(places)}
    written = {
        (i, int(o), k) for i, row in enumerate(tables.written) for k, o in enumerate(row) if o < len(outputs)}
    assert read == written and (read or not len(places))


# -------------------------------------------------------------------- three implementations

@pytest.mark.parametrize('stride', [1, 2])
def test_the_product_equals_the_loop_over_the_kernel(stride):
    rows, slots = random_slots()
    places = rows_of_slots(rows, slots, (9, 7)).places
    tables = places.beside if stride == 1 else places.halved[1]
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    rows = rows.double().requires_grad_()
    torch.testing.assert_close(table_conv(rows, weight, tables), table_conv_reference(rows, weight, tables))
    assert torch.autograd.gradcheck(lambda r, w: table_conv(r, w, tables), (rows, weight))


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('training', [True, False])
def test_rows_equal_the_masked_convolution(stride, training):
    """One layer against torch's own convolution on whole maps, cut to the active cells."""
    rows, slots = random_slots()
    layer = ConvNorm(4, 5, stride).train(training)
    nn.init.normal_(layer.norm.running_mean)
    nn.init.normal_(layer.norm.bias)

    sparse = layer(rows_of_slots(rows, slots, (9, 7)))
    x = masked_of_slots(rows, slots, (9, 7)).x_BCYX
    active = (x != 0).any(1)
    assert torch.equal(rows_of_slots(rows, slots, (9, 7)).dense(), x)
    if stride == 2:
        active = nn.functional.max_pool2d(active.float(), 3, 2, 1) > 0
    assert torch.equal((sparse.dense() != 0).any(1), active)

    convolved = nn.functional.conv2d(x, layer.conv.weight, stride=stride, padding=1)
    convolved = convolved.permute(0, 2, 3, 1)[active]
    mean = convolved.mean(0) if training else layer.norm.running_mean
    spread = convolved.var(0, unbiased=False) if training else layer.norm.running_var
    expected = (convolved - mean) / (spread + 1e-3).sqrt() + layer.norm.bias
    torch.testing.assert_close(sparse.dense().permute(0, 2, 3, 1)[active], expected, rtol=1e-4, atol=1e-4)


def outcome(implementation, training=True, seed=3, points=500, **options):
    """Map, gradients of all weights and running statistics of one pass."""
    encoder = make_encoder(**options).train(training)
    encoder.implementation = implementation
    inputs = encoder.prepare(make_batch(samples=2, points=points, seed=seed))
    bev = encoder(**inputs).bev_BCYX
    torch.manual_seed(7)
    (bev * torch.randn(bev.shape)).mean().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    assert all(value is not None for value in gradients.values())
    return bev.detach(), gradients, {k: v for k, v in encoder.state_dict().items() if 'running' in k}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('options', [{}, {'channels': (8, 8, 8), 'layers': (2, 1, 0)}])
def test_rows_equal_their_dense_twin(training, options):
    """Values, gradients of every weight and running statistics."""
    for found, expected in zip(outcome('rows', training, **options), outcome('masked', training, **options),
                               strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('training', [True, False])
def test_spconv_equals_rows(training, monkeypatch):
    ops = pytest.importorskip('spconv.pytorch.ops', reason='spconv of the extra [sparse] is not installed')
    if not torch.cuda.is_available():  # the wheel for CPUs asks for a stream that a torch for CPUs has not
        monkeypatch.setattr(ops, 'get_current_stream', lambda: 0)
    for found, expected in zip(outcome('spconv', training), outcome('rows', training), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_without_spconv_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'spconv', None)
    rows, slots = random_slots()
    with pytest.raises(ModuleNotFoundError, match=r'\[sparse\]'):
        SpconvMap.of(rows_of_slots(rows, slots, (9, 7)))


# -------------------------------------------------------------------- clouds

@pytest.mark.parametrize('points', [0, 1, 2])
@pytest.mark.parametrize('implementation', ['rows', 'masked'])
def test_few_points_train_without_spread(points, implementation):
    bev, gradients, running = outcome(implementation, points=points)
    assert bev.shape == (2, 12, 16, 16) and bev.isfinite().all()
    assert all(value.isfinite().all() for value in (*gradients.values(), *running.values()))


def test_an_empty_map_goes_through():
    rows = RowMap(torch.zeros(0, 4), Places(torch.zeros(0, dtype=torch.int64), (2, 5, 5)))
    assert torch.equal(ConvNorm(4, 6, 2)(ConvNorm(4, 4)(rows)).dense(), torch.zeros(2, 6, 3, 3))


def test_bfloat16_follows_float32():
    encoder = make_encoder().eval()
    inputs = encoder.prepare(make_batch(samples=1))
    exact = encoder(**inputs).bev_BCYX
    with torch.autocast('cpu', torch.bfloat16):
        rounded = encoder(**inputs).bev_BCYX
        rounded.float().sum().backward()
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


def test_stages_must_fit_the_grids():
    for channels in ((8, 8), (8, 8, 8, 8, 8)):
        with pytest.raises(ValueError, match=r'expected 3 sparse stages, or 4 with the dense one, found'):
            make_encoder(channels=channels, layers=(1,) * len(channels))
    encoder = make_encoder()
    encoder.implementation = 'dense'
    with pytest.raises(ValueError, match=r"implementation: expected one of .* found 'dense'"):
        encoder.chosen(torch.device('cpu'))


def test_a_recorded_graph_is_dense(monkeypatch):
    """Rows ask for a number of active cells, which a stream that records cannot give."""
    encoder, gpu = make_encoder(), torch.device('cuda')
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    assert encoder.chosen(gpu) != 'masked'
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    assert encoder.chosen(gpu) == 'masked' and encoder.chosen(torch.device('cpu')) == 'rows'


def test_what_is_exported_is_dense_and_equal(tmp_path):
    """Fixed sizes, and only operators that engines have."""
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = make_encoder(PILLAR_GRID, channels=(6, 8, 10), layers=(1, 0, 0))

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.encoder(**dict(zip(names, tensors, strict=True))).bev_BCYX

    network = Encoder().eval()
    network.encoder.static = True
    inputs = network.encoder.prepare(make_batch(samples=1))
    names = list(inputs)
    assert {'MaxPool', 'Mul', 'ConvTranspose'} <= assert_exports(network, list(inputs.values()), tmp_path)
