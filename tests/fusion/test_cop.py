"""Height-guided sampling and global-local fusion: identities, absence, learning, engines."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perception.bev.records import SensorFeature
from perception.core.config import read_config
from perception.core.grid import BEVGrid
from perception.fusion.concat import ConcatFuser
from perception.fusion.cop import HEIGHT_BANDS_M, CollaborativeFuser, HeightGuidedSampling, band_logits
from tests.export_check import assert_exports
from tests.helpers import make_batch, make_model

ROOT = Path(__file__).resolve().parents[2]
GRID = BEVGrid((-6.4, 6.4), (-4.8, 4.8), 1.6, (-1.0, 3.0), 1.0)


def make() -> CollaborativeFuser:
    torch.manual_seed(0)
    return CollaborativeFuser(ConcatFuser({'camera': 6, 'lidar': 5}, 8), GRID, 4, band_channels=3)


def awake(fuser: CollaborativeFuser) -> CollaborativeFuser:
    nn.init.constant_(fuser.fusion.joint[-1].weight, 1.0)
    return fuser


def features(batch: int = 2) -> dict[str, SensorFeature]:
    g = torch.Generator().manual_seed(1)
    y, x = GRID.shape_YX
    return {
        'camera': SensorFeature(
            torch.randn(batch, 6, y, x, generator=g), torch.randn(batch, 4, 4, y, x, generator=g)
        ),
        'lidar': SensorFeature(torch.randn(batch, 5, y, x, generator=g)),
    }


def present(camera: tuple[bool, ...] = (True, True)) -> dict[str, Tensor]:
    return {'camera': torch.tensor(camera), 'lidar': torch.ones(len(camera), dtype=torch.bool)}


def test_it_starts_as_the_fuser_inside() -> None:
    fuser = make().train()
    assert torch.equal(fuser.fuse(features(), present()), fuser.fuser.fuse(features(), present()))
    assert not torch.equal(awake(fuser).fuse(features(), present()), fuser.fuser.fuse(features(), present()))


def test_bands_by_hand() -> None:
    """Voxels of one metre from -1 to 3: the vehicle band 0 to 2.2 touches the last three."""
    assert band_logits(GRID, 'vehicle', (0.0, 2.2), 4.0).tolist() == [-4, 0, 0, 0]
    assert band_logits(GRID, 'ground', (-1.0, 0.0), 4.0).tolist() == [0, -4, -4, -4]
    layers = BEVGrid((0, 4), (0, 4), 1.0, heights_m=(-0.4, 0.0, 0.4, 1.0, 2.0))
    assert band_logits(layers, 'ground', (-1.0, 0.2), 4.0).tolist() == [0, 0, -4, -4, -4]
    with pytest.raises(ValueError, match='sky'):
        band_logits(GRID, 'sky', (7.0, 9.0), 4.0)


def test_a_band_reads_its_heights() -> None:
    sampling = HeightGuidedSampling(GRID, 1, 1, {'ground': (-1, 0), 'tall': (1, 3)}, leak=50.0).eval()
    for convolve in sampling.convolutions:
        nn.init.dirac_(convolve[0].weight)
    voxels = torch.tensor([1.0, 2.0, 3.0, 5.0])[None, None, :, None, None].expand(1, 1, 4, *GRID.shape_YX)
    found = sampling(voxels)
    torch.testing.assert_close(found[0, :, 2, 2], torch.tensor([1.0, 4.0]), atol=1e-3, rtol=1e-3)


def test_absent_cameras_are_never_read() -> None:
    fuser, clean = awake(make()).eval(), features()
    clean['camera'].voxels_BCZYX[1], clean['camera'].bev_BCYX[1] = 0, 0
    broken = features()
    broken['camera'].voxels_BCZYX[1], broken['camera'].bev_BCYX[1] = torch.nan, torch.nan
    found = fuser.fuse(broken, present((True, False)))
    assert torch.isfinite(found).all() and torch.equal(found, fuser.fuse(clean, present((True, False))))


def test_every_parameter_learns() -> None:
    """At first only the last norm of what is added learns, and the fuser inside; then everything."""
    def asleep(fuser: CollaborativeFuser) -> set[str]:
        fuser.zero_grad(set_to_none=True)
        there = present((True, False))
        weight = torch.randn(8, 1, 1, generator=torch.Generator().manual_seed(2))
        (fuser.fuse(features(), there) * weight).square().sum().backward()
        return {n for n, p in fuser.named_parameters() if p.grad is None or not p.grad.any()}

    fuser = make().train()
    names = {n for n, _ in fuser.named_parameters() if not n.startswith('fuser.')}
    assert asleep(fuser) - {'fuser.absent.lidar'} == names - {'fusion.joint.2.weight', 'fusion.joint.2.bias'}
    assert asleep(awake(fuser)) == {'fuser.absent.lidar'}  # the LiDAR is never absent here


def test_bfloat16_agrees() -> None:
    fuser = awake(make()).eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        half = fuser.fuse(features(), present()).float()
    full = fuser.fuse(features(), present())
    assert (half - full).abs().mean() < 0.03 * full.abs().mean()


def test_exports(tmp_path) -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fuser = awake(make())

        def forward(
            self, camera: Tensor, voxels: Tensor, lidar: Tensor, camera_there: Tensor, lidar_there: Tensor
        ) -> Tensor:
            maps = {'camera': SensorFeature(camera, voxels), 'lidar': SensorFeature(lidar)}
            return self.fuser.fuse(maps, {'camera': camera_there, 'lidar': lidar_there})

    given = features(1)
    assert_exports(Graph(), [given['camera'].bev_BCYX, given['camera'].voxels_BCZYX, given['lidar'].bev_BCYX,
                             *present((True,)).values()], tmp_path)


def test_the_model_hands_it_the_voxels() -> None:
    model = make_model().eval()
    encoder = model.encoders['camera']
    inside, width = model.fuser, encoder.depth_net(torch.zeros(1, 16, 2, 2), None)[0].shape[1]
    batch = model.data_preprocessor({'inputs': make_batch(samples=1)})['inputs']
    before = model(batch)['map_segmentation.logits']
    model.fuser = CollaborativeFuser(inside, encoder.grid, width, 4).eval()
    torch.testing.assert_close(model(batch)['map_segmentation.logits'], before)
    assert not torch.equal(awake(model.fuser) and model(batch)['map_segmentation.logits'], before)


def test_an_encoder_without_voxels_is_named() -> None:
    flat = {name: SensorFeature(feature.bev_BCYX) for name, feature in features().items()}
    with pytest.raises(ValueError, match="'camera' gives no voxels"):
        make().fuse(flat, present())


def test_a_fuser_that_routes_by_task_is_refused() -> None:
    routes = ConcatFuser({'camera': 6}, 8)
    routes.tasks = ('detection', 'occupancy')
    with pytest.raises(ValueError, match='expected one map for all tasks'):
        CollaborativeFuser(routes, GRID, 4)


@pytest.mark.parametrize('name', ['nuscenes/cop', 'world/cop'])
def test_the_ground_band_reads_the_layer_on_the_road(name) -> None:
    """With the layers of the present lift; the band of what stands above the road does not."""
    fuser = read_config(ROOT / 'configs' / f'{name}.py').model.fuser
    grid = BEVGrid(**{key: value for key, value in fuser.grid.items() if key != 'type'})
    on_road, = np.flatnonzero(np.isclose(grid.heights_m, 0.0))
    assert band_logits(grid, 'ground', HEIGHT_BANDS_M['ground'], 4.0)[on_road] == 0
    assert band_logits(grid, 'tall', HEIGHT_BANDS_M['tall'], 4.0)[on_road] == -4


def test_bands_cover_the_heights_of_occupancy() -> None:
    assert min(low for low, _ in HEIGHT_BANDS_M.values()) == -1.0
    assert max(high for _, high in HEIGHT_BANDS_M.values()) == 5.4
