"""Our operators against mmcv's compiled ones and mmdet3d's layers: the same cells, overlaps and survivors."""
from __future__ import annotations

import numpy as np
import pytest
import torch

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
mmcv_ops = pytest.importorskip('mmcv.ops', reason=MISSING)
pytest.importorskip('mmdet3d', reason=MISSING)

from perception.bev.ops.voxelise import group_points, group_points_reference  # noqa: E402
from perception.bev.pillars import make_pillars  # noqa: E402
from perception.core.grid import BEVGrid  # noqa: E402
from perception.heads.detection.nms import circle_nms, rotated_iou, rotated_nms  # noqa: E402

pytestmark = pytest.mark.interop

GRID = BEVGrid((-12.8, 12.8), (-9.6, 16.0), 0.8, z_range_m=(-2.0, 2.4))
REACH = [-12.8, -9.6, -2.0, 12.8, 16.0, 2.4]
CELL = [0.8, 0.8, 4.4]


def rectangles(count: int, seed: int, spread_m: float = 8.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sizes = rng.uniform((0.5, 0.4), (9, 3), (count, 2))
    return np.concatenate(
        [rng.uniform(-spread_m, spread_m, (count, 2)), sizes, rng.uniform(-7, 7, (count, 1))], 1
    )


@pytest.fixture(scope='module')
def cloud() -> torch.Tensor:
    """Points in and around the grid, crowded near the car, none within 0.1 mm of a border (mmcv divides in
    float32)."""
    rng = np.random.default_rng(3)
    xyz = np.concatenate([rng.normal(0, 3, (4000, 3)), rng.uniform((-15, -12, -3), (15, 18, 4), (4000, 3))])
    cells = (xyz - REACH[:3]) / CELL
    xyz = xyz[(np.abs(cells - cells.round()) * CELL > 1e-4).all(1)]
    rest = np.stack(
        [rng.uniform(0, 255, len(xyz)), rng.integers(0, 32, len(xyz)), rng.choice([0, 0.05], len(xyz))], 1
    )
    return torch.as_tensor(np.concatenate([xyz, rest], 1), dtype=torch.float32)


# -------------------------------------------------------------------- overlaps

def test_rotated_iou_equals_mmcvs() -> None:
    a, b = rectangles(80, 0), rectangles(90, 1)
    theirs = mmcv_ops.box_iou_rotated(*(torch.as_tensor(r, dtype=torch.float32) for r in (a, b)))
    ours = rotated_iou(a, b)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)
    assert (ours > 0.05).sum() > 200 and ours.max() > 0.5


def test_the_sense_of_yaw_matters() -> None:
    """mmcv's default turns from x to y as our yaw does (clockwise only where y looks down); read the other
    way the same numbers are other rectangles, so the equality above is no accident."""
    a, b = rectangles(80, 0), rectangles(90, 1)
    theirs = mmcv_ops.box_iou_rotated(
        *(torch.as_tensor(r, dtype=torch.float32) for r in (a, b)), clockwise=False
    )
    assert np.abs(rotated_iou(a, b) - theirs.numpy()).max() > 0.1


@pytest.mark.parametrize('threshold', [0.05, 0.2, 0.5])
def test_rotated_nms_keeps_what_mmcvs_keeps(threshold: float) -> None:
    boxes, rng = rectangles(200, 4), np.random.default_rng(5)
    scores = rng.permutation(200) / 200
    assert np.abs(rotated_iou(boxes, boxes) - threshold).min() > 1e-5  # else a rounding would decide
    ours = rotated_nms(boxes, scores, np.zeros(200, int), np.array([threshold]))
    _, theirs = mmcv_ops.nms_rotated(
        torch.as_tensor(boxes, dtype=torch.float32), torch.as_tensor(scores, dtype=torch.float32), threshold
    )
    assert ours.tolist() == theirs.tolist() and 10 < len(ours) < 200


def test_circle_nms_keeps_what_mmdet3ds_keeps() -> None:
    from mmdet3d.models.layers import circle_nms as theirs
    rng = np.random.default_rng(6)
    centres, scores = rng.uniform(-20, 20, (400, 2)), rng.permutation(400) / 400
    ours = circle_nms(centres, scores, np.zeros(400, int), np.array([2.0]))
    found = theirs(np.concatenate([centres, scores[:, None]], 1), 2.0**2, post_max_size=400)
    assert ours.tolist() == [int(i) for i in found] and 50 < len(ours) < 350


# -------------------------------------------------------------------- pillars

@pytest.mark.parametrize('group', [group_points, group_points_reference])
@pytest.mark.parametrize('max_points', [5, 32])
def test_pillars_are_mmcvs_voxels(cloud: torch.Tensor, group, max_points: int) -> None:
    """The same cells, as many points in each, the same points in the same order."""
    voxels, cells_zyx, counts = mmcv_ops.Voxelization(CELL, REACH, max_points, 20_000)(cloud)
    kept, cell_of_pillar, our_counts, dropped = group(cloud, GRID, max_points, None)
    order = (cells_zyx[:, 1].long() * GRID.x_size + cells_zyx[:, 2]).argsort()
    their_cells = (cells_zyx[:, 1].long() * GRID.x_size + cells_zyx[:, 2])[order]
    assert cell_of_pillar.tolist() == their_cells.tolist()
    assert our_counts.tolist() == counts[order].tolist()
    assert dropped == 0
    theirs = torch.cat([voxels[i, :counts[i]] for i in order.tolist()])
    torch.testing.assert_close(cloud[kept], theirs, rtol=0, atol=0)
    assert len(kept) > 2000 and int(counts.max()) == max_points


def test_all_points_of_a_pillar_are_mmcvs_dynamic_voxels(cloud: torch.Tensor) -> None:
    cells = mmcv_ops.Voxelization(CELL, REACH, -1, -1)(cloud).long()
    inside = (cells >= 0).all(1)
    theirs = torch.where(inside, cells[:, 1] * GRID.x_size + cells[:, 2], -1)
    kept, cell_of_pillar, counts, _ = group_points(cloud, GRID, None, None)
    ours = torch.full_like(theirs, -1)
    ours[kept] = torch.repeat_interleave(cell_of_pillar, counts)
    assert ours.tolist() == theirs.tolist() and 1000 < int(inside.sum()) < len(cloud)


def test_points_are_described_as_mmdet3ds_pillar_network_describes_them(cloud: torch.Tensor) -> None:
    """Offsets to the pillar's mean and centre, and the place of every pillar on the map."""
    from mmdet3d.models.voxel_encoders import PillarFeatureNet
    voxels, cells_zyx, counts = mmcv_ops.Voxelization(CELL, REACH, 32, 20_000)(cloud)
    network = PillarFeatureNet(
        in_channels=6, feat_channels=(8,), voxel_size=CELL, point_cloud_range=REACH, legacy=False
    )
    seen: list[torch.Tensor] = []
    network.pfn_layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    network(voxels, counts, torch.cat([torch.zeros(len(cells_zyx), 1), cells_zyx], 1).int())
    pillars = make_pillars([cloud], GRID, 32)
    slots = pillars.slot_map[0, cells_zyx[:, 1].long() * GRID.x_size + cells_zyx[:, 2]].long()
    for theirs, count, slot in zip(seen[0], counts.tolist(), slots.tolist(), strict=True):
        ours = pillars.points[pillars.pillar_points[slot, :count].long()]
        expected = torch.cat([theirs[:count, :3], theirs[:count, 3:4] / 255, theirs[:count, 5:11]], 1)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=2e-5)
