"""Deformable attention: GridSample against loops, places one can check in the head, mmcv's layout, the
exported graph."""
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from perception.bev.ops.deformable_attention import (
    DeformableAttention,
    cell_centres,
    deformable_attention,
    deformable_attention_grid_sample,
    deformable_attention_loops,
    deformable_attention_mmcv,
    deformable_attention_reference,
    filled,
    softmax_of_few,
    star,
)
from perception.deployment.export.operators import walk
from tests.export_check import export, open_session

SHAPES = ((5, 7), (3, 4))


def problem(heads=2, points=3, queries=6, batch=2, width=8, dtype=torch.float64):
    torch.manual_seed(0)
    values = [torch.randn(batch, width, *shape, dtype=dtype, requires_grad=True) for shape in SHAPES]
    places = (
        torch.rand(batch, queries, heads, len(SHAPES), points, 2, dtype=dtype) * 1.4 - 0.2
    ).requires_grad_()
    weights = torch.randn(batch, queries, heads, len(SHAPES), points, dtype=dtype).requires_grad_()
    return values, places, weights


def kernel_by_loops(value_BVHC, shapes_L2, starts_L, places, weights, step):
    """What mmcv's kernel computes, from its own layout of arguments."""
    b, _, heads, width = value_BVHC.shape
    assert b % step == 0 and value_BVHC.is_contiguous() and places.is_contiguous()
    maps = [value_BVHC[:, s:s + y * x].permute(0, 2, 3, 1).reshape(b, heads * width, y, x)
            for s, (y, x) in zip(starts_L.tolist(), shapes_L2.tolist(), strict=True)]
    return deformable_attention_reference(maps, places, weights)


def by_kernel(*arguments):
    return deformable_attention_mmcv(*arguments, kernel_by_loops)


class FromOutside(TorchDispatchMode):
    """Counts tensors that are made of a list or of an array, which then is copied to the device."""

    found = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.found += operation is torch.ops.aten.lift_fresh.default
        return operation(*arguments, **(options or {}))


def test_a_forward_copies_nothing_to_the_device() -> None:
    """A CUDA graph may refuse it: the sampler's table, and the one that mmcv's kernel takes."""
    values, places, weights = (x.detach() if torch.is_tensor(x) else [v.detach() for v in x]
                               for x in problem(dtype=torch.float32))
    layer, maps = DeformableAttention(8, 2, 2, 3).eval(), [v[:, :8] for v in values]
    with torch.no_grad(), FromOutside() as count:
        layer(torch.zeros(2, 4, 8), torch.full((2, 4, 2), 0.5), maps)
        by_kernel(values, places, weights)
        assert count.found == 0
        torch.tensor([1.0])
    assert count.found == 1  # what it would see


def test_filled_tables_hold_the_bits_of_copied_ones() -> None:
    rows = [(1 / x, 1 / y) for y, x in SHAPES]
    assert torch.equal(filled(rows, torch.device('cpu')), torch.tensor(rows))
    shapes = filled(SHAPES, torch.device('cpu'))
    assert shapes.dtype == torch.int64 and shapes.tolist() == [list(shape) for shape in SHAPES]


@pytest.mark.parametrize(
    'fast', [deformable_attention, deformable_attention_grid_sample, deformable_attention_loops, by_kernel]
)
def test_values_and_gradients_equal_the_loops(fast):
    results = []
    for read in (fast, deformable_attention_reference):
        values, places, weights = problem(dtype=torch.float32)
        out = read(values, places, weights)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        results.append([out, *(t.grad for t in (*values, places, weights))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_readings_by_hand():
    """A map of 2 x 4 cells holding 0..7: the centre of cell (1, 2) reads 6; between (0, 0) and (1, 0) lies 2;
    the corner reads a quarter of its cell; beyond the border nothing."""
    values = torch.arange(8.0).view(1, 1, 2, 4)
    places = torch.tensor([[2.5 / 4, 1.5 / 2], [0.5 / 4, 0.5], [1.0, 1.0], [1.2, 0.5]]).view(1, 4, 1, 1, 1, 2)
    for read in (
        deformable_attention_grid_sample, deformable_attention_loops, deformable_attention_reference):
        out = read([values], places, torch.ones(1, 4, 1, 1, 1))
        torch.testing.assert_close(out.flatten(), torch.tensor([6.0, 2.0, 7 / 4, 0.0]))


def test_heads_read_their_own_channels():
    values = torch.randn(1, 4, 3, 3)
    places, weights = torch.full((1, 1, 2, 1, 1, 2), 0.5), torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1)
    out = deformable_attention([values], places, weights)[0, 0]
    torch.testing.assert_close(out, torch.cat([values[0, :2, 1, 1], torch.zeros(2)]))


def test_shapes_that_do_not_belong_together_are_refused():
    values, places, weights = problem()
    for bad in (
        (values[:1], places, weights), (values, places, weights[:, :3]),
        ([v[:, :7] for v in values], places, weights)):
        with pytest.raises(ValueError, match='do not belong together'):
            deformable_attention(*bad)
    with pytest.raises(ValueError, match='not a multiple of 3 heads'):
        DeformableAttention(8, heads=3)


def test_softmax_of_few_equals_torchs_with_barred_places_and_large_logits():
    runs = []
    for softmax in (softmax_of_few, lambda x: x.softmax(-1)):
        logits = torch.tensor([[1.0, -2, 3, 0], [500, 499, -500, 2], [1, 1, 1, 1]], requires_grad=True)
        shares = softmax(logits + torch.tensor([0, -torch.inf, 0, 0]))
        (shares * torch.tensor([1.0, 2, -3, 4])).sum().backward()
        runs.append((shares, logits.grad))
    for found, expected in zip(*runs, strict=True):
        torch.testing.assert_close(found, expected)
    assert (runs[0][0][:, 1] == 0).all()


def test_the_star():
    """Four heads look along +x, +y, -x, -y; four of eight look along diagonals, as far per axis."""
    torch.testing.assert_close(
        star(4, 2)[:, 1], torch.tensor([[2.0, 0], [0, 2], [-2, 0], [0, -2]]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(star(8, 1)[1, 0], torch.tensor([1.0, 1.0]))


def test_a_new_layer_averages_its_star():
    """Offsets and weights start from zero weights: whatever the query, the result is the mean of the star's
    readings."""
    layer = DeformableAttention(4, heads=4, levels=1, points=1)
    for part in (layer.value, layer.out):
        nn.init.zeros_(part.weight)
        part.weight.data.view(4, 4).copy_(torch.eye(4))
    maps = torch.randn(1, 4, 5, 5)
    out = layer(torch.randn(1, 25, 4), cell_centres((5, 5)), [maps]).view(5, 5, 4)
    near = torch.stack([maps[0, 0, 2, 3], maps[0, 1, 3, 2], maps[0, 2, 2, 1], maps[0, 3, 1, 2]])
    torch.testing.assert_close(out[2, 2], near, rtol=1e-4, atol=1e-5)


def make_layer():
    torch.manual_seed(0)
    layer = DeformableAttention(8, heads=2, levels=2, points=3)
    for part in (layer.sampler.offsets, layer.sampler.logits):
        nn.init.normal_(part.weight, std=0.3)
    return layer


def test_every_parameter_learns_also_in_bf16():
    layer = make_layer()
    maps = [torch.randn(2, 8, *shape) for shape in SHAPES]
    queries = torch.randn(2, 35, 8)
    whole = layer(queries, cell_centres((5, 7)), maps)
    with torch.autocast('cpu', torch.bfloat16):
        half = layer(queries, cell_centres((5, 7)), maps)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, rtol=0.1, atol=0.06)
    (half.float() * torch.randn_like(whole)).sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in layer.parameters())


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = make_layer()

    def forward(self, queries, first, second):
        return self.layer(queries, cell_centres((5, 7)), [first, second])


@torch.no_grad()
def test_exports_without_plugins(tmp_path):
    pytest.importorskip('onnxruntime')
    inputs = (torch.randn(1, 35, 8), *(torch.randn(1, 8, *shape) for shape in SHAPES))
    graph, path = Graph().eval(), tmp_path / 'layer.onnx'
    export(graph, dict(zip(('queries', 'first', 'second'), inputs, strict=True)), path)
    assert walk(path) == []
    session = open_session(path)
    fresh = tuple(torch.randn_like(x) for x in inputs)
    found = session.run(
        None, {n: x.numpy() for n, x in zip(('queries', 'first', 'second'), fresh, strict=True)}
    )[0]
    torch.testing.assert_close(torch.from_numpy(found), graph(*fresh), rtol=1e-4, atol=1e-5)
