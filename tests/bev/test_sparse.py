"""Convolutions over active cells of two and three axes: rule books by hand, rows against tables and the
masked twin, values and gradients, few and no points, spconv, the exported graph."""
from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from torch import nn

from perception.bev.sparse.layers import chosen_form
from perception.bev.sparse.maps import ConvNorm, RowMap, masked_of_slots, rows_of_slots
from perception.bev.sparse.places import ConvWindow, Places
from perception.bev.sparse.rule_conv import rule_conv, rule_conv_reference
from perception.bev.sparse.spconv_map import SpconvMap
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


# -------------------------------------------------------------------- rule books

FLAT, HALVED = ConvWindow.cube(2), ConvWindow.cube(2, 2)
CUBE, TO_HALF = ConvWindow.cube(3), ConvWindow((3, 3, 3), (2, 2, 2), (0, 1, 1))
LEVELS = ConvWindow((3, 1, 1), (2, 1, 1), (0, 0, 0))
WINDOWS = pytest.mark.parametrize('window', [FLAT, HALVED, CUBE, ConvWindow.cube(3, 2), TO_HALF, LEVELS])


def table(places: Places, window: ConvWindow) -> tuple[list[int], list[dict[int, int]]]:
    """The cells that a convolution writes; for each {place of the kernel: the row that it reads there}."""
    outputs, book = places.through(window)
    reads: list[dict[int, int]] = [{} for _ in range(book.rows)]
    for k, (read, written) in enumerate(book.by_place()):
        for i, o in zip(read.tolist(), written.tolist(), strict=True):
            reads[o][k] = i
    assert len(outputs) == book.rows and sum(map(len, reads)) == len(book.read)
    return outputs.cells_M.tolist(), reads


def random_places(window: ConvWindow, share: float = 0.3, samples: int = 2) -> tuple[torch.Tensor, Places]:
    """Rows of four numbers at random cells of a map of odd and even sides."""
    torch.manual_seed(1)
    shape = (samples, 9, 8) if len(window.size) == 2 else (samples, 7, 6, 5)
    cells = (torch.rand(math.prod(shape)) < share).nonzero()[:, 0]
    return torch.randn(len(cells), 4), Places(cells, shape)


def test_two_axes_by_hand():
    """Cells (0, 0), (0, 1) and (2, 2) of a 3 x 3 map; halved, all four cells of 2 x 2 but the lower left."""
    places = Places(torch.tensor([0, 1, 8]), (1, 3, 3))
    assert table(places, FLAT) == ([0, 1, 8], [{4: 0, 5: 1}, {3: 0, 4: 1}, {4: 2}])
    # output (0, 1) lies over column 2 and reads column 1 at its left
    assert table(places, HALVED) == ([0, 1, 3], [{4: 0, 5: 1}, {3: 1}, {4: 2}])
    assert places.through(HALVED)[0].shape == (1, 2, 2)


def test_three_axes_by_hand():
    """Cells (0, 0, 0), (0, 0, 1) and (2, 2, 2) of a 3 x 3 x 3 map; the kernel's 27 weights are 0 to 26."""
    places = Places(torch.tensor([0, 1, 26]), (1, 3, 3, 3))
    rows = torch.tensor([[1.0], [10.0], [100.0]])
    weight = torch.arange(27.0).view(1, 1, 3, 3, 3)

    assert table(places, CUBE) == ([0, 1, 26], [{13: 0, 14: 1}, {12: 0, 13: 1}, {13: 2}])
    assert rule_conv(rows, weight, places.through(CUBE)[1])[:, 0].tolist() == [153, 142, 1300]

    # without padding in height one layer is left, whose outputs read heights 0 to 2
    assert table(places, TO_HALF) == ([0, 1, 3], [{4: 0, 5: 1}, {3: 1}, {22: 2}])
    assert places.through(TO_HALF)[0].shape == (1, 1, 2, 2)
    assert rule_conv(rows, weight, places.through(TO_HALF)[1])[:, 0].tolist() == [54, 30, 2200]


def test_a_sample_never_reads_another():
    for shape, windows in (((2, 3, 3), (FLAT, HALVED)), ((2, 1, 3, 3), (CUBE, ConvWindow.cube(3, 2)))):
        places = Places(torch.tensor([8, 9]), shape)  # the last cell of one map, the first of the next
        for window in windows:
            assert [len(reads) for reads in table(places, window)[1]] == [1, 1]


def test_books_go_with_their_places():
    """Not by the collector of circles, which may come many training steps later."""
    places = Places(torch.tensor([0, 1, 26]), (1, 3, 3, 3))
    assert places.through(CUBE)[0] is places and places.through(CUBE)[1] is places.through(CUBE)[1]
    halved, book = places.through(TO_HALF)
    held = [weakref.ref(part) for part in (places, places.through(CUBE)[1], halved, book)]
    gc.disable()
    try:
        del places, halved, book
        assert [ref() for ref in held] == [None] * 4
    finally:
        gc.enable()


def test_windows_must_have_a_middle():
    with pytest.raises(ValueError, match=r'expected size = 2 \* padding \+ 1'):
        ConvWindow((3, 3), (1, 1), (0, 0))
    with pytest.raises(ValueError, match='as many sizes as strides'):
        ConvWindow((3, 3), (2, 2, 2), (1, 1))


# -------------------------------------------------------------------- three implementations

@WINDOWS
def test_the_sum_over_places_equals_the_table(window):
    rows, places = random_places(window)
    book = places.through(window)[1]
    weight = torch.randn(5, 4, *window.size, dtype=torch.float64, requires_grad=True)
    rows = rows.double().requires_grad_()
    torch.testing.assert_close(rule_conv(rows, weight, book), rule_conv_reference(rows, weight, book))

    few, places = random_places(window, 0.05)
    weight, few = weight.detach()[:2].requires_grad_(), few.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda r, w: rule_conv(r, w, places.through(window)[1]), (few, weight), fast_mode=True)


@WINDOWS
@pytest.mark.parametrize('training', [True, False])
def test_rows_equal_the_masked_convolution(window, training):
    """One layer against torch's own convolution on whole maps, cut to the active cells."""
    rows, places = random_places(window)
    layer = ConvNorm(4, 5, window).train(training)
    nn.init.normal_(layer.norm.running_mean)
    nn.init.normal_(layer.norm.bias)

    sparse = layer(RowMap(rows, places)).dense().movedim(1, -1)
    x = RowMap(rows, places).dense()
    convolve = nn.functional.conv2d if x.ndim == 4 else nn.functional.conv3d
    active = (x != 0).any(1)
    assert active.flatten().nonzero()[:, 0].equal(places.cells_M)
    if not window.submanifold:
        ones = torch.ones(1, 1, *window.size)
        active = convolve(active[:, None].float(), ones, None, window.stride, window.padding)[:, 0] > 0.5
    assert torch.equal((sparse != 0).any(-1), active)

    convolved = convolve(x, layer.conv.weight, None, window.stride, window.padding).movedim(1, -1)[active]
    mean = convolved.mean(0) if training else layer.norm.running_mean
    spread = convolved.var(0, unbiased=False) if training else layer.norm.running_var
    expected = (convolved - mean) / (spread + 1e-3).sqrt() + layer.norm.bias
    torch.testing.assert_close(sparse[active], expected, rtol=1e-4, atol=1e-4)


def test_slots_name_the_same_cells_in_both_forms():
    rows, slots = random_slots()
    sparse, masked = rows_of_slots(rows, slots, (9, 7)), masked_of_slots(rows, slots, (9, 7))
    assert torch.equal(sparse.dense(), masked.dense())
    assert masked.mask.flatten().nonzero()[:, 0].equal(sparse.places.cells_M)


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
    assert torch.equal(ConvNorm(4, 6, HALVED)(ConvNorm(4, 4)(rows)).dense(), torch.zeros(2, 6, 3, 3))


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
        chosen_form(encoder, torch.device('cpu'))


def test_a_recorded_graph_is_dense(monkeypatch):
    """Rows ask for a number of active cells, which a stream that records cannot give."""
    encoder, gpu = make_encoder(), torch.device('cuda')
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    assert chosen_form(encoder, gpu) != 'masked'
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    assert chosen_form(encoder, gpu) == 'masked' and chosen_form(encoder, torch.device('cpu')) == 'rows'


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
