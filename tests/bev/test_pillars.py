"""Pillars by hand, numba against torch, free against fixed sizes, the maximum against its reference."""
from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from perception.bev.ops.table_max import table_max, table_max_reference
from perception.bev.ops.voxelise import group_points, group_points_reference
from perception.bev.pillars import decorate, height_weights, make_pillars
from perception.bev.records import PillarSizes
from perception.core.grid import BEVGrid
from tests.helpers import GRID, PILLAR_GRID, make_cloud, make_lidar

SMALL = BEVGrid((0.0, 4.0), (0.0, 2.0), 1.0, (-1.0, 3.0))


def cloud(*xyz, lag=0.0):
    return torch.tensor([[x, y, z, 255.0, 3, lag] for x, y, z in xyz])


def test_grouping_by_hand():
    """Cells are row * 4 + column; within a pillar the cloud's order counts; borders, heights and NaN are seen
    to."""
    points = cloud(
        (1.5, 1.5, 0), (0.2, 0.2, 0), (1.2, 1.9, 1), (4.0, 1, 0), (0, 0, 3.0), (0, 0, -1.0), (1.1, 1.1, 2),
        (math.nan, 0, 0))
    for group in (group_points, group_points_reference):
        kept, cells, counts, dropped = group(points, SMALL, 2, None)
        assert kept.tolist() == [1, 5, 0, 2]
        assert cells.tolist() == [0, 5]
        assert counts.tolist() == [2, 2]
        assert dropped == 0
        kept, _, counts, _ = group(points, SMALL, None, None)
        assert kept.tolist() == [1, 5, 0, 2, 6] and counts.tolist() == [2, 3]


@pytest.mark.parametrize('points', [0, 1, 300, 5000])
@pytest.mark.parametrize(('max_points', 'sizes'), [(None, None), (3, None), (3, PillarSizes(10_000, 50)),
                                                   (4, PillarSizes(40, 500))])
def test_numba_and_torch_group_alike(points, max_points, sizes):
    data = make_cloud(points)
    data[::17, 1] = torch.nan
    for fast, slow in zip(group_points(data, PILLAR_GRID, max_points, sizes),
                          group_points_reference(data, PILLAR_GRID, max_points, sizes), strict=True):
        assert torch.equal(fast, slow) if isinstance(fast, torch.Tensor) else fast == slow


def test_the_nearest_pillars_stay_and_the_others_are_counted():
    points = cloud((3.5, 0.5, 0), (2.5, 1.5, 0), (0.5, 0.5, 0), (1.5, 0.5, 0))
    for group in (group_points, group_points_reference):
        _, cells, _, dropped = group(points, SMALL, 4, PillarSizes(100, 2))
        assert cells.tolist() == [0, 1] and dropped == 2
        assert group(points, SMALL, 4, PillarSizes(3, 9))[3] == 1


def test_decoration_by_hand():
    points = cloud((1.2, 0.4, 0), (1.6, 0.4, 2), lag=0.05)
    features = decorate(points, torch.tensor([1]), torch.tensor([2]), SMALL)
    expected = [[1.2, 0.4, 0, 1, 0.05, -0.2, 0, -1, -0.3, -0.1], [1.6, 0.4, 2, 1, 0.05, 0.2, 0, 1, 0.1, -0.1]]
    torch.testing.assert_close(features, torch.tensor(expected), rtol=0, atol=1e-6)


def test_height_weights_by_hand():
    weights = height_weights(torch.tensor([-1.0, 0.5, 3.0, 9.0]), (-1.0, 3.0), 3)
    assert weights.tolist() == [[1, 0, 0], [0.25, 0.75, 0], [0, 0, 1], [0, 0, 1]]


def test_batches_are_put_together_with_their_own_pillars():
    pillars = make_pillars(
        [cloud((0.5, 0.5, 0), (0.6, 0.5, 0)), cloud((3.5, 1.5, 0)), cloud()[:0].reshape(0, 6)], SMALL, 2
    )
    assert pillars.slot_map.tolist() == [[0, 3, 3, 3, 3, 3, 3, 3], [3, 3, 3, 3, 3, 3, 3, 1], [3] * 8]
    assert pillars.pillar_points[0].tolist() == [0, 1] and pillars.pillar_points[1].tolist() == [2, 2]
    assert pillars.points[2, :3].tolist() == [3.5, 1.5, 0]


def test_every_table_row_names_points_of_its_own_cell():
    pillars = make_pillars([make_cloud(2000)], PILLAR_GRID, 8)
    rows, columns = (pillars.slot_map[0] < len(pillars.pillar_points)).view(32, 32).nonzero().T
    xy = pillars.points[pillars.pillar_points.long()][..., :2]
    found = PILLAR_GRID.to_cells(xy).floor()
    assert (found == torch.stack([columns, rows], -1)[:, None]).all()


@pytest.mark.parametrize('points', [2, 400])
def test_fixed_sizes_change_shapes_and_no_number(batch, points):
    batch = replace(batch, lidar_points=(make_cloud(points, 5), make_cloud(points // 2, 6)))
    encoder = make_lidar().eval()
    free = encoder.prepare(batch)
    encoder.static = True
    fixed = encoder.prepare(batch)
    assert fixed['points'].shape == (1200, 10) and fixed['pillar_points'].shape == (1200, 8)
    with torch.no_grad():
        torch.testing.assert_close(encoder(**fixed).bev_BCYX, encoder(**free).bev_BCYX, rtol=1e-5, atol=1e-5)
    assert encoder.dropped_pillars == 0


def test_fixed_sizes_wait_for_evaluation(batch):
    encoder = make_lidar(static=True).train()
    assert len(encoder.prepare(batch)['points']) < 1200
    assert len(encoder.eval().prepare(batch)['points']) == 1200


def test_a_cloud_too_large_for_the_fixed_sizes_loses_its_far_pillars(batch):
    encoder = make_lidar(export_sizes={'points': 300, 'pillars': 100}, static=True).eval()
    inputs = encoder.prepare(batch)
    assert inputs['pillar_points'].shape == (200, 8) and encoder.dropped_pillars > 100
    kept = (inputs['slot_map'] < 200).view(2, 32, 32)
    centres = torch.as_tensor(PILLAR_GRID.centres_m()).norm(dim=-1)
    occupied = (make_pillars(batch.lidar_points[:1], PILLAR_GRID).slot_map[0] < 10**6).view(32, 32)
    assert kept[0].sum() <= 100 and (centres[kept[0]].max() <= centres[occupied].median() + 4)
    with pytest.raises(ValueError, match='max_points_per_pillar'):
        make_lidar(max_points_per_pillar=None, static=True).prepare(batch)


def test_what_is_dropped_is_farther_than_what_stays():
    sizes = PillarSizes(10_000, 60)
    everything = make_pillars([make_cloud(600)], PILLAR_GRID)
    some = make_pillars([make_cloud(600)], PILLAR_GRID, sizes=sizes)
    centres = torch.as_tensor(PILLAR_GRID.centres_m()).norm(dim=-1).flatten()
    before, after = everything.slot_map[0] < len(everything.pillar_points), some.slot_map[0] < 60
    assert after.sum() == 60 and some.dropped == before.sum() - 60
    assert centres[after].max() <= centres[before & ~after].min() + 1e-4


def test_no_limit_gives_what_a_large_limit_gives(batch):
    torch.manual_seed(0)
    free, limited = make_lidar(max_points_per_pillar=None).eval(), make_lidar(max_points_per_pillar=64).eval()
    limited.load_state_dict(free.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            free(**free.prepare(batch)).bev_BCYX, limited(**limited.prepare(batch)).bev_BCYX
        )


@pytest.mark.parametrize('training', [True, False])
def test_empty_and_absent_clouds_work(batch, training):
    encoder = make_lidar().train(training)
    empty = replace(batch, lidar_points=(torch.zeros(0, 6), torch.full((5, 6), torch.nan)))
    bev = encoder(**encoder.prepare(empty)).bev_BCYX
    assert bev.shape == (2, 12, 16, 16) and bev.isfinite().all()
    gone = replace(batch, lidar_present_B=torch.tensor([False, False]))
    assert torch.equal(encoder.prepare(gone)['slot_map'], encoder.prepare(empty)['slot_map'])


def test_a_point_lights_the_cell_it_lies_in(batch):
    encoder = make_lidar().eval().requires_grad_(False)
    torch.nn.init.constant_(encoder.point_net[0][0].weight, 0.0)[:, 3] = 1.0           # reads the intensity
    points = cloud((3.0, -7.0, 1.0))
    with torch.no_grad():
        inputs = encoder.prepare(replace(batch, lidar_points=(points, points[:0])))
        lit = encoder.scatter(**inputs).abs().sum(1) > 0
    assert lit.nonzero().tolist() == [[0, int((-7.0 + 12.8) / 0.8), int((3.0 + 12.8) / 0.8)]]


def table_and_rows(seed=0):
    pillars = make_pillars([make_cloud(700, seed)], PILLAR_GRID, 8)
    return torch.randn(
        len(pillars.points), 5, generator=torch.Generator().manual_seed(seed)
    ), pillars.pillar_points


def test_maximum_agrees_with_its_reference_in_values_and_gradients():
    x, table = table_and_rows()
    outputs = []
    for maximum in (table_max, table_max_reference):
        rows = x.clone().requires_grad_()
        found = maximum(rows, table)
        (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
        outputs.append((found.detach(), rows.grad))
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=0, atol=0)
    torch.testing.assert_close(outputs[0][1], outputs[1][1])


def test_maximum_by_hand_and_with_nan():
    x = torch.tensor([[1.0, 5], [3, 4], [2, torch.nan], [-7, -7]])
    found = table_max(x, torch.tensor([[0, 1, 0], [1, 2, 1], [3, 3, 3]], dtype=torch.int32))
    assert found[0].tolist() == [3, 5]
    assert found[1, 0] == 3
    assert found[1, 1].isnan()
    assert found[2].tolist() == [-7, -7]


@pytest.mark.parametrize(('pillar', 'out', 'message'), [
    (PILLAR_GRID, BEVGrid((-12.8, 12.8), (0, 12.8), 1.6), 'same ground'),
    (BEVGrid(GRID.x_range_m, GRID.y_range_m, 0.1), GRID, 'stages'), (GRID, PILLAR_GRID, 'stages')])
def test_grids_that_do_not_fit_are_refused(pillar, out, message):
    encoder = type(make_lidar())
    with pytest.raises(ValueError, match=message):
        encoder(pillar, out, channels=(8, 8), layers=(1, 1))


def test_a_batch_without_lidar_is_refused(batch):
    with pytest.raises(ValueError, match='no LiDAR points'):
        make_lidar().prepare(replace(batch, lidar_points=None, lidar_present_B=None))
