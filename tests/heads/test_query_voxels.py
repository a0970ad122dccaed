"""Occupancy queries: which voxels have one, how they fill them, and attention in space."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from perception.heads.m3net.voxel_queries import first_voxels_loss
from perception.heads.occupancy.query_head import fill_voxels, linear_heights
from perception.heads.occupancy.targets import OccupancyTargets
from perception.heads.occupancy.voxel_attention import VoxelAttention
from perception.heads.queried import QueriedMap
from tests.export_check import assert_exports
from tests.heads.query_toys import COARSE, QUERIED, WIDTH, make_bridge, make_heads, shared


def test_queries_fill_their_voxels() -> None:
    content, voxels, empty = torch.randn(2, 3, 4), torch.tensor([[5, 0, 2], [1, 3, 4]]), torch.randn(4)
    expected = empty.expand(2, 6, 4).clone()
    for b in range(2):
        expected[b, voxels[b]] = content[b]
    assert torch.equal(fill_voxels(content, voxels, empty, 6), expected)


class Filling(nn.Module):
    """The likeliest voxels of a map are filled with its own vectors."""

    def forward(self, scores: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        taken = scores.topk(3).indices
        return fill_voxels(content, taken, torch.full((4,), 0.5), scores.shape[1])


def test_filling_voxels_exports(tmp_path) -> None:
    scores = torch.tensor([[0.1, 0.9, 0.3, 0.2, 0.8, 0.0], [0.7, 0.1, 0.2, 0.6, 0.3, 0.9]])
    used = assert_exports(Filling(), [scores, torch.randn(2, 3, 4)], tmp_path)
    assert 'TopK' in used and not used & {'NonZero', 'Loop', 'Scan', 'If', 'Unique', 'Compress'}


def test_attention_in_space_samples_trilinearly() -> None:
    """Against torch's own reading of a five-dimensional map."""
    torch.manual_seed(0)
    z, y, x = 3, 4, 5
    layer = VoxelAttention(8, (z, y, x), heads=2, points=3)
    for parameter in (layer.offsets.weight, layer.logits.weight):
        nn.init.normal_(parameter, std=0.2)
    voxels = torch.randn(2, z * y * x, 8)
    with torch.no_grad():
        found = layer(voxels, voxels)
        offsets = layer.offsets(voxels).unflatten(-1, (2, 3, 3))
        weights = layer.logits(voxels).unflatten(-1, (2, 3)).softmax(-1)
        values = layer.value(voxels).transpose(1, 2).unflatten(2, (z, y, x))
        index = torch.cartesian_prod(*(torch.arange(n) for n in (z, y, x))).flip(-1)
        places = (index[:, None, None] + offsets + 0.5) / torch.tensor([x, y, z]) * 2 - 1
        heads = []
        for h in range(2):
            read = F.grid_sample(
                values[:, 4 * h:4 * h + 4], places[:, :, None, h], align_corners=False)[:, :, :, 0]
            heads.append((read * weights[:, None, :, h]).sum(-1))
        expected = layer.out(torch.cat(heads, 1).transpose(1, 2))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_heights_between_coarse_ones_are_those_of_interpolate() -> None:
    coarse = torch.randn(1, 1, 4)
    expected = F.interpolate(coarse, size=16, mode='linear', align_corners=False)[0, 0]
    torch.testing.assert_close(torch.from_numpy(linear_heights(4, 16)) @ coarse[0, 0], expected)

    torch.manual_seed(0)
    head = make_heads('interpolated')['occupancy'].eval()
    taken = torch.tensor([[0, 9, 70]])
    logits = head(QueriedMap(shared(), torch.randn(1, 3, WIDTH), COARSE, taken))['logits']
    assert logits.shape == (1, 8 * 18, 8, 8)
    # eight fine heights of four: the lowest is the coarse one, the next two lie 1/4 and 3/4 of the way up
    heights = logits.unflatten(1, (8, 18))
    torch.testing.assert_close(heights[:, 2] - heights[:, 1], 2 * (heights[:, 1] - heights[:, 0]))


def test_coarse_voxels_are_occupied_where_a_fine_one_is() -> None:
    labels = torch.full((1, 2, 4, 4), 17, dtype=torch.uint8)
    labels[0, 1, 0, 3], labels[0, :, 2:, :2] = 4, 255
    # occupied, free, not labelled, free
    right = torch.tensor([[[[-20.0, 20.0], [20.0, -20.0]]]])
    assert first_voxels_loss(right, labels).item() < 1e-6
    assert first_voxels_loss(torch.zeros(1, 1, 2, 2), labels).item() == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match=r'voxel_grid: .*\(2, 4, 4\).*\(1, 3, 2\)'):
        first_voxels_loss(torch.zeros(1, 1, 3, 2), labels)


def test_coarse_voxels_count_by_the_labels_that_say_what_they_are() -> None:
    """Occupied by a voxel of weight 1/4 beside surer free ones; free by one of 1/2; free by ones."""
    labels = torch.full((1, 1, 2, 6), 17, dtype=torch.uint8)
    weights = torch.ones(1, 1, 2, 6, dtype=torch.float16)
    labels[0, 0, 0, 0], weights[0, 0, 0, 0] = 4, 0.25
    labels[0, 0, 0, 2:4], weights[0, 0, 1, 2:4] = 255, 0.5
    logits = torch.tensor([[[[1.0, 2.0, -3.0]]]])
    each = np.log1p(np.exp([-1.0, 2.0, -3.0]))
    found = first_voxels_loss(logits, labels, weights).item()
    assert found == pytest.approx((0.25 * each[0] + 0.5 * each[1] + each[2]) / 1.75)
    assert first_voxels_loss(logits, labels, weights * 0 + 1) == first_voxels_loss(logits, labels)


def test_the_bridge_hands_weights_of_voxels_to_its_first_loss() -> None:
    raw = {'occupancy': {'first_voxels': torch.tensor([[[[3.0, 0.0]]]])}}
    labels = torch.tensor([[[[17, 17]]]], dtype=torch.uint8)
    sure, doubtful = (OccupancyTargets(labels, None, weights) for weights in (
        None, torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float16)))
    losses = [make_bridge().loss(raw, {'occupancy': one}) for one in (sure, doubtful)]
    found = [terms['occupancy/first_voxels'].item() for terms in losses]
    assert found == pytest.approx([(np.log1p(np.exp(3.0)) + np.log(2)) / 2, np.log(2)])


def test_voxel_queries_take_the_likeliest() -> None:
    bridge = make_bridge().eval()
    queried = bridge(dict.fromkeys(QUERIED, shared()))['occupancy']
    generator, bev = bridge.query_generators['occupancy'], bridge.input_projection(shared())
    _, logits, taken = generator(bev)
    assert torch.equal(queried.taken_BQ, taken) and taken.unique().numel() == 90
    assert set(logits.flatten().topk(90).indices.tolist()) == set(taken[0].tolist())
