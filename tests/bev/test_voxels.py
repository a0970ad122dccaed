"""VoxelNet: voxels by hand, rows against the dense twin and spconv, published shapes, what exports and what
does not."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from perception.bev.published.voxelnet import VoxelNet
from perception.bev.records import VoxelSizes
from perception.bev.sparse.voxel_net import SparseVoxels
from perception.bev.sparse.voxels import make_voxels
from perception.core.contracts import Batch, Frame
from perception.core.grid import BEVGrid
from tests.export_check import assert_exports
from tests.helpers import GRID, GROUND, make_batch

HEIGHTS = dict(z_range_m=(-1.0, 3.0), height_cell_m=0.2)
FINE = BEVGrid(**GROUND, cell_m=0.8, **HEIGHTS)


def make_encoder(grid: BEVGrid = FINE, **options: object) -> VoxelNet:
    """Voxels of 0.8 m to 1.6 m in two resolutions, 21 heights to 4."""
    torch.manual_seed(0)
    sizes = {'widths': (4, 6), 'compressed': 3, 'channels': (8, 10), 'layers': (1, 1), 'out_channels': 12,
             'sizes': dict(points=3, voxels=600)}
    return VoxelNet(grid, GRID, **{**sizes, **options})


def outcome(implementation: str, training: bool = True, points: int = 500, kind: torch.dtype = torch.float64):
    """Map, gradients of all weights and running statistics of one pass.

    In float64, where no ReLU's input comes so near to zero that rounding decides a gradient.
    """
    encoder = make_encoder().train(training).to(kind)
    encoder.implementation = implementation
    inputs = encoder.prepare(make_batch(samples=2, points=points))
    bev = encoder(**{**inputs, 'voxels': inputs['voxels'].to(kind)}).bev_BCYX
    torch.manual_seed(7)
    (bev * torch.randn(bev.shape)).mean().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    assert all(value is not None for value in gradients.values())
    return bev.detach(), gradients, {k: v for k, v in encoder.state_dict().items() if 'running' in k}


# -------------------------------------------------------------------- voxels

def test_voxels_by_hand():
    """A cell of 1 m, half as high: means of the first two points, the first three voxels that appear."""
    grid = BEVGrid((0.0, 4.0), (0.0, 2.0), 1.0, (0.0, 1.0), 0.5)
    cloud = torch.tensor([
        [3.5, 1.5, 0.6, 90.0, 7.0, 0.1],  # height 1, row 1, column 3
        [0.25, 0.5, 0.1, 10.0, 7.0, 0.0], [0.75, 0.5, 0.3, 30.0, 7.0, 0.2],
        [0.5, 0.5, 0.2, 255.0, 7.0, 9.0],  # a third point of its voxel
        [4.0, 0.5, 0.2, 1.0, 0.0, 0.0], [0.5, float('nan'), 0.2, 1.0, 0.0, 0.0],  # outside, no point
        [1.5, 0.5, 0.9, 40.0, 7.0, 0.0], [2.5, 0.5, 0.1, 50.0, 7.0, 0.0]])  # the last has no room
    voxels = make_voxels([cloud[:0], cloud], grid, (3, 2, 4), VoxelSizes(points=2, voxels=3))

    assert voxels.cells.tolist() == [24, 24 + 9, 24 + 15] and voxels.counts.tolist() == [0, 3]
    expected = [[0.5, 0.5, 0.2, 20, 0.1], [1.5, 0.5, 0.9, 40, 0], [3.5, 1.5, 0.6, 90, 0.1]]
    torch.testing.assert_close(voxels.means, torch.tensor(expected))
    assert voxels.dropped == 1

    padded = make_voxels([cloud], grid, (3, 2, 4), VoxelSizes(points=2, voxels=6), padded=True)
    assert padded.cells.tolist() == [0, 2, 9, 15, 24, 24] and padded.means[4:].abs().max() == 0


def test_what_has_no_room_is_counted_and_said(caplog):
    encoder = make_encoder(sizes=dict(voxels=200))
    inputs = encoder.prepare(make_batch(samples=2))
    assert inputs['voxel_counts'].tolist() == [200, 200] and encoder.dropped_voxels > 100
    assert f'1 clouds had more voxels than there is room for; in all {encoder.dropped_voxels}' in (
        encoder.describe_cuts())


# -------------------------------------------------------------------- implementations

@pytest.mark.parametrize('training', [True, False])
def test_rows_equal_their_dense_twin(training):
    """Values, gradients of every weight and running statistics."""
    for found, expected in zip(outcome('rows', training), outcome('masked', training), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('training', [True, False])
def test_spconv_equals_rows(training, monkeypatch):
    ops = pytest.importorskip('spconv.pytorch.ops', reason='spconv of the extra [sparse] is not installed')
    if not torch.cuda.is_available():  # the wheel for CPUs asks for a stream that a torch for CPUs has not
        monkeypatch.setattr(ops, 'get_current_stream', lambda: 0)
    single = dict(training=training, kind=torch.float32)
    for found, expected in zip(outcome('spconv', **single), outcome('rows', **single), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('points', [0, 1])
def test_few_points_train_without_spread(points):
    bev, gradients, _ = outcome('rows', points=points)
    assert bev.shape == (2, 12, 16, 16) and bev.isfinite().all()
    assert all(value.isfinite().all() for value in gradients.values())


def test_half_precision_begins_behind_the_voxels():
    """As published: metres and intensities of 255 stay in float32."""
    encoder = make_encoder(channels=(), layers=(), out_channels=12).eval()
    inputs = encoder.prepare(make_batch(samples=1))
    exact = encoder(**inputs).bev_BCYX
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(encoder(**inputs).bev_BCYX, exact)


# -------------------------------------------------------------------- shapes

def test_the_published_sizes():
    """CenterPoint at 0.075 m: 41 heights become 21, 11, 5, 2; what the dense twin would cost, by hand."""
    network = SparseVoxels(5, (16, 32, 64, 128), 128, (41, 1440, 1440))
    assert network.out_heights == 2
    assert sum(p.numel() for p in network.parameters()) == 2_691_696 + 2_656

    cells = [41 * 1440 ** 2, 21 * 720 ** 2, 11 * 360 ** 2, 5 * 180 ** 2]
    products = cells[0] * 27 * 16 * (5 + 4 * 16) + 2 * 180 ** 2 * 3 * 128 ** 2
    for n, before, behind in zip(cells[1:], (16, 32, 64), (32, 64, 128), strict=True):
        products += n * 27 * behind * (before + 4 * behind)
    cost = network.dense_cost((41, 1440, 1440))
    assert cost.tflop == pytest.approx(2e-12 * products)
    assert cost.gib == pytest.approx(3 * 16 * 4 * cells[0] / 2 ** 30)


def test_heights_lie_side_by_side_within_a_channel():
    """Channel c of height d goes to c * D + d, as mmdet3d's view of (N, C, D, H, W) says."""
    encoder = make_encoder(channels=(), layers=(), out_channels=12).eval()
    inputs = encoder.prepare(make_batch(samples=1))
    encoder.implementation = 'masked'
    x = encoder.middle.entry(encoder.active_map(inputs['voxels'], inputs['voxel_cells'], 1))
    for layer in (*encoder.middle.stages[0], *encoder.middle.stages[1], encoder.middle.output):
        x = layer(x)
    assert x.dense().shape == (1, 3, 4, 16, 16)
    found = encoder(**inputs).bev_BCYX
    torch.testing.assert_close(found[:, 2 * 4 + 1], x.dense()[:, 2, 1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='height_cell_m, the height of a voxel; found none'):
        make_encoder(BEVGrid(**GROUND, cell_m=0.8))
    with pytest.raises(ValueError, match=r'3 resolutions make cells of 0.8 m 4 times as long'):
        make_encoder(widths=(4, 6, 8))
    with pytest.raises(ValueError, match='5 heights are too few for 2 resolutions'):
        make_encoder(BEVGrid(**GROUND, cell_m=0.8, z_range_m=(-1.0, 3.0), height_cell_m=1.0))
    with pytest.raises(ValueError, match='without stages expected 12, the heights side by side, found 20'):
        make_encoder(channels=(), layers=(), out_channels=20)
    with pytest.raises(ValueError, match='a multiple of 2 stages, found 13'):
        make_encoder(out_channels=13)


# -------------------------------------------------------------------- export

class Engine(nn.Module):
    """An encoder as a graph."""

    def __init__(self, encoder: VoxelNet, names: list[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.encoder(**dict(zip(self.names, tensors, strict=True))).bev_BCYX


def test_longer_voxels_export_and_are_equal(tmp_path):
    """Fixed sizes, only operators that engines have; the same map as by rows from unpadded voxels."""
    encoder = make_encoder().eval()
    batch = make_batch(samples=1)
    by_rows = encoder(**encoder.prepare(batch)).bev_BCYX
    encoder.static = True
    inputs = encoder.prepare(batch)
    assert inputs['voxels'].shape == (600, 5) and int(inputs['voxel_counts']) < 600
    torch.testing.assert_close(encoder(**inputs).bev_BCYX, by_rows)
    names = list(inputs)
    used = assert_exports(Engine(encoder, names), list(inputs.values()), tmp_path)
    assert {'MaxPool', 'Conv', 'ScatterND'} <= used | {'ScatterND' if 'ScatterElements' in used else ''}
    encoder.implementation = 'masked'
    torch.testing.assert_close(encoder(**inputs).bev_BCYX, by_rows, rtol=1e-4, atol=1e-4)


def test_short_voxels_are_refused_with_their_price():
    """Nothing of that size is allocated: neither for an engine nor for a recorded graph."""
    ground = dict(x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0))
    fine = BEVGrid(**ground, cell_m=0.075, z_range_m=(-5.0, 3.0), height_cell_m=0.2)
    with torch.device('meta'):
        encoder = VoxelNet(fine, BEVGrid(**ground, cell_m=0.6)).eval()
    batch = Batch((Frame('a', 0, np.eye(4)),), lidar_points=(torch.zeros(1, 6),),
                  lidar_present_B=torch.ones(1, dtype=torch.bool))
    inputs = encoder.prepare(batch)
    assert inputs['voxel_cells'].tolist() == [(25 * 1440 + 720) * 1440 + 720]

    encoder.static = True
    price = r'1440 x 1440 x 41 voxels that needs 15.2 GiB for maps and 9.8 TFLOP a frame'
    with pytest.raises(ValueError, match=price):
        encoder.prepare(batch)
    encoder.implementation = 'masked'
    with pytest.raises(ValueError, match=price):
        encoder(**inputs)
