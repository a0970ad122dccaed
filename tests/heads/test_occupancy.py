"""Occupancy: order of voxels, losses by hand, sampling, learning, export."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, OccupancyLabels
from perception.core.grid import BEVGrid
from perception.core.protocols import OCCUPANCY_FREE, OCCUPANCY_GRID
from perception.heads.occupancy import OccupancyHead
from perception.heads.occupancy.decode import (
    _add_exponentials,
    decode_compiled,
    decode_occupancy,
    decode_reference,
)
from perception.heads.occupancy.loss import (
    cross_entropy,
    geometric_affinity,
    lovasz_softmax,
    semantic_affinity,
)
from perception.heads.occupancy.targets import as_raw
from perception.heads.occupancy.voxels import VoxelSample, read_logits, sample_voxels

SMALL = BEVGrid((-8, 8), (-6, 6), 1.0, (-1, 3), 1.0)


def labels_of(grid: BEVGrid, seed: int = 0) -> OccupancyLabels:
    """Ground at the lowest height, a block of cars, the rest free, some voxels not labelled, half seen by
    cameras."""
    z, y, x = grid.shape_ZYX
    rng = np.random.default_rng(seed)
    semantics = np.full((x, y, z), OCCUPANCY_FREE, dtype=np.uint8)
    semantics[:, :, 0] = 11
    semantics[2:6, 3:5, 1:3] = 4
    semantics[9:12, :, 1] = 15
    semantics[0, 0, :] = 255
    seen = rng.random((x, y, z)) < 0.7
    return OccupancyLabels(semantics, np.ones_like(semantics), seen.astype(np.uint8))


@pytest.fixture(scope='module')
def labelled() -> Annotations:
    return Annotations('occupied', occupancy=labels_of(SMALL))


@pytest.fixture(params=[dict(), dict(work_cell_m=2.0), dict(losses=dict(voxels_per_sample=200), hidden=24)],
                ids=['full', 'coarse', 'sampled'])
def head(request, trunk_grid) -> OccupancyHead:
    torch.manual_seed(0)
    return OccupancyHead(trunk_grid, 8, width=16, task_grid=SMALL, **request.param)


def voxels(probabilities: list, labels: list, weights: list | None = None) -> VoxelSample:
    logits = torch.full((len(labels), 18), -30.0)
    for row, given in enumerate(probabilities):
        for label, probability in given.items():
            logits[row, label] = math.log(probability)
    return VoxelSample(
        logits.requires_grad_(), torch.tensor(labels), torch.tensor(weights or [1.0] * len(labels))
    )


@pytest.mark.parametrize('work_cell_m, cells', [(None, 200), (0.8, 100)])
def test_the_published_grid(work_cell_m, cells, trunk_grid) -> None:
    head = OccupancyHead(trunk_grid, 4, width=4, work_cell_m=work_cell_m).eval()
    assert OCCUPANCY_GRID.shape_ZYX == (16, 200, 200)
    raw = head(torch.rand(1, 4, 32, 32))
    assert raw['logits'].shape == (1, 288, cells, cells)
    prediction = head.decode(raw)[0]
    assert prediction.semantics_XYZ.shape == (200, 200, 16) and prediction.semantics_XYZ.dtype == np.uint8


def test_a_voxel_keeps_its_place() -> None:
    head = OccupancyHead(SMALL, 4, mask=None, task_grid=SMALL)
    semantics = np.full((16, 12, 4), OCCUPANCY_FREE, dtype=np.uint8)
    semantics[3, 7, 2] = 5
    ones = np.ones_like(semantics)
    targets = head.targets([Annotations('a', occupancy=OccupancyLabels(semantics, ones, ones))])
    assert targets.labels_BZYX[0, 2, 7, 3] == 5 and (targets.labels_BZYX == 5).sum() == 1
    raw = as_raw(targets)
    assert raw['logits'][0, 2 * 18 + 5, 7, 3] == 20 and raw['logits'][0, 2 * 18 + 17, 7, 3] == 0
    np.testing.assert_array_equal(head.decode(raw)[0].semantics_XYZ, semantics)


@pytest.mark.parametrize('mask', ['camera', 'lidar', None])
def test_masks_hide_what_was_not_seen(mask, labelled) -> None:
    targets = OccupancyHead(SMALL, 4, mask=mask, task_grid=SMALL).targets([labelled])
    ignored = (targets.labels_BZYX[0] == 255).numpy().transpose(2, 1, 0)
    expected = labelled.occupancy.semantics_XYZ == 255
    if mask == 'camera':
        expected = expected | (labelled.occupancy.mask_camera_XYZ == 0)
    np.testing.assert_array_equal(ignored, expected)


def test_truth_as_prediction(labelled) -> None:
    head = OccupancyHead(SMALL, 4, mask=None, task_grid=SMALL)
    targets = head.targets([labelled, labelled])
    losses = head.loss(as_raw(targets), targets)
    assert set(losses) == {'cross_entropy', 'lovasz', 'semantic_affinity', 'geometric_affinity'}
    assert all(value.item() < 1e-4 for value in losses.values()), losses
    found = head.decode(as_raw(targets))[0]
    known = labelled.occupancy.semantics_XYZ != 255
    np.testing.assert_array_equal(found.semantics_XYZ[known], labelled.occupancy.semantics_XYZ[known])
    assert found.confidence_XYZ.dtype == np.float16 and found.confidence_XYZ.min() > 0.99


def test_cross_entropy_by_hand() -> None:
    two = voxels([{4: 0.5, 17: 0.5}, {17: 0.25, 4: 0.75}], [4, 17], [1.0, 3.0])
    weights = torch.ones(18)
    weights[4] = 2
    expected = (2 * math.log(2) + 3 * math.log(4)) / 5
    assert cross_entropy(two, weights).item() == pytest.approx(expected, rel=1e-5)


def test_dense_voxels_count_more_by_hand() -> None:
    """Losses log 2 and log 4 at densities 1 and 0: with a weight of 2 they count 3 and 1, (3 log 2 + 2 log 2)
    / 4."""
    plain = voxels([{4: 0.5, 3: 0.5}, {4: 0.25, 3: 0.75}], [4, 4])
    dense = replace(plain, density_S=torch.tensor([1.0, 0.0]))
    assert cross_entropy(dense, torch.ones(18), 2.0).item() == pytest.approx(1.25 * math.log(2), abs=1e-5)
    assert cross_entropy(dense, torch.ones(18)).item() == pytest.approx(1.5 * math.log(2), abs=1e-5)
    assert cross_entropy(plain, torch.ones(18), 2.0).item() == pytest.approx(1.5 * math.log(2), abs=1e-5)


@pytest.mark.parametrize('voxels_per_sample', [None, 400])
def test_densities_are_read_at_their_own_voxels(voxels_per_sample, trunk_grid) -> None:
    """Two samples, the second without densities; what a voxel says of itself is its density."""
    labels = labels_of(SMALL)
    density = (
        (labels.semantics_XYZ != OCCUPANCY_FREE).astype(np.float16)
        * np.arange(1, 17, dtype=np.float16)[:, None, None]
        / 16
    )
    pair = [
        Annotations('dense', occupancy=replace(labels, density_XYZ=density)),
        Annotations('plain', occupancy=labels)]
    head = OccupancyHead(trunk_grid, 8, width=16, task_grid=SMALL, mask=None, losses=dict(density_weight=1.0))
    targets = head.targets(pair)
    place = (
        torch.arange(16.0).expand(2, 4, 12, 16).repeat_interleave(18, 1)
        + torch.tensor([0.0, 100.0])[:, None, None, None]
    )
    found = sample_voxels(place, targets.labels_BZYX, voxels_per_sample, targets.density_BZYX)
    x = found.logits_SC[:, 0]
    expected = torch.where((x < 100) & (found.labels_S != OCCUPANCY_FREE), (x + 1) / 16, 0.0)
    torch.testing.assert_close(found.density_S, expected)
    assert expected.max() == 1
    assert OccupancyHead(trunk_grid, 8, task_grid=SMALL).targets(pair).density_BZYX is None


def test_lovasz_of_hard_predictions_is_one_minus_iou() -> None:
    sure = 1 - 1e-9
    four = voxels([{4: sure}, {4: sure}, {4: sure}, {17: sure}], [4, 4, 17, 17])
    assert lovasz_softmax(four).item() == pytest.approx(((1 - 2 / 3) + (1 - 1 / 2)) / 2, abs=1e-5)


def test_lovasz_by_hand() -> None:
    two = voxels([{4: 0.6, 17: 0.4}, {4: 0.3, 17: 0.7}], [4, 17])
    car = 0.4 * 1.0
    free = 0.4 * 0.5 + 0.3 * 0.5
    assert lovasz_softmax(two).item() == pytest.approx((car + free) / 2, rel=1e-5)


def test_a_weight_of_two_is_the_voxel_twice() -> None:
    once = voxels([{4: 0.6, 17: 0.4}, {4: 0.3, 17: 0.7}, {11: 0.2, 4: 0.8}], [4, 17, 11], [2.0, 1.0, 3.0])
    rows, labels = [0, 0, 1, 2, 2, 2], [4, 4, 17, 11, 11, 11]
    often = VoxelSample(once.logits_SC[rows], torch.tensor(labels), torch.ones(6))
    for loss in (
        lovasz_softmax, semantic_affinity, geometric_affinity, lambda v: cross_entropy(v, torch.ones(18))):
        assert loss(once).item() == pytest.approx(loss(often).item(), rel=1e-4)


def lovasz_reference(sample: VoxelSample) -> float:
    """One class after the other, one voxel after the other."""
    probability, total = sample.logits_SC.softmax(1).detach().numpy(), []
    labels = sample.labels_S.numpy()
    for label in np.unique(labels):
        truth = labels == label
        errors = np.where(truth, 1 - probability[:, label], probability[:, label])
        wrong, loss, before = np.zeros(len(labels), bool), 0.0, 0.0
        for voxel in np.argsort(-errors):
            wrong[voxel] = True
            jaccard = 1 - (truth & ~wrong).sum() / (truth | wrong).sum()
            loss, before = loss + errors[voxel] * (jaccard - before), jaccard
        total.append(loss)
    return float(np.mean(total))


def test_lovasz_equals_its_reference() -> None:
    torch.manual_seed(0)
    sample = VoxelSample(torch.randn(60, 18), torch.randint(0, 18, (60,)), torch.ones(60))
    assert lovasz_softmax(sample).item() == pytest.approx(lovasz_reference(sample), rel=1e-5)


def test_affinities_by_hand() -> None:
    two = voxels([{4: 0.8, 17: 0.2}, {4: 0.4, 17: 0.6}], [4, 17])
    occupied = -math.log(0.8 / 1.2) - math.log(0.8) - math.log(0.6)
    free = -math.log(0.6 / 0.8) - math.log(0.6) - math.log(0.8)
    assert geometric_affinity(two).item() == pytest.approx(occupied, rel=1e-4)
    assert semantic_affinity(two).item() == pytest.approx((occupied + free) / 2, rel=1e-4)


def test_affinity_is_zero_for_hard_truth_and_finite_when_all_wrong() -> None:
    sure = 1 - 1e-9
    right = voxels([{4: sure}, {17: sure}], [4, 17])
    wrong = voxels([{17: sure}, {4: sure}], [4, 17])
    for loss in (geometric_affinity, semantic_affinity):
        assert loss(right).item() == pytest.approx(0, abs=1e-5)
        assert 5 < loss(wrong).item() < 100


def test_coarse_logits_are_read_as_if_upsampled() -> None:
    torch.manual_seed(0)
    coarse = torch.randn(2, 4 * 18, 6, 8, requires_grad=True)
    labels = torch.randint(0, 18, (2, 4, 12, 16), dtype=torch.uint8)
    fine = torch.nn.functional.interpolate(coarse, size=(12, 16), mode='bilinear', align_corners=False)
    places = torch.unravel_index(torch.randperm(labels.numel())[:500], labels.shape)
    left, right = read_logits(coarse, places, (12, 16)), read_logits(fine, places, (12, 16))
    torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    probe = torch.randn_like(left)
    torch.testing.assert_close(torch.autograd.grad((left * probe).sum(), coarse, retain_graph=True)[0],
                               torch.autograd.grad((right * probe).sum(), coarse)[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        sample_voxels(coarse, labels, None).logits_SC, sample_voxels(fine, labels, None).logits_SC
    )


def test_reading_is_plain_indexing() -> None:
    logits = torch.randn(2, 4 * 18, 5, 6)
    places = (torch.tensor([0, 1]), torch.tensor([3, 2]), torch.tensor([4, 0]), torch.tensor([5, 1]))
    found = read_logits(logits, places, (5, 6))
    torch.testing.assert_close(found, torch.stack([logits[0, 54:72, 4, 5], logits[1, 36:54, 0, 1]]))


def test_sampled_losses_are_fair() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 4 * 18, 40, 40)
    labels = torch.full((1, 4, 40, 40), OCCUPANCY_FREE, dtype=torch.uint8)
    labels[:, 0] = torch.randint(0, 17, (1, 40, 40), dtype=torch.uint8)
    labels[:, 3] = 255
    exact = sample_voxels(logits, labels, None)
    assert len(exact.labels_S) == 3 * 1600 and not (exact.labels_S == 255).any()
    parts = [sample_voxels(logits, labels, 1000) for _ in range(20)]
    assert all(len(p.labels_S) == 1000 and p.weights_S.sum() == pytest.approx(4800) for p in parts)
    for loss in (geometric_affinity, lambda v: cross_entropy(v, torch.ones(18)), lovasz_softmax):
        assert np.mean([loss(p).item() for p in parts]) == pytest.approx(loss(exact).item(), rel=0.03)


def test_unlabelled_samples_cost_nothing(head, labelled, names_without_gradient) -> None:
    bev = torch.rand(2, 8, 32, 32)
    none = head.targets([Annotations('a'), Annotations('b')])
    assert all(value.item() == 0 for value in head.loss(head(bev), none).values())
    assert names_without_gradient(head, bev, none, zeros_count=True) == []


def test_an_unlabelled_sample_changes_nothing(labelled, trunk_grid) -> None:
    head = OccupancyHead(trunk_grid, 8, width=16, task_grid=SMALL)
    raw = {'logits': torch.randn(2, 72, 12, 16)}
    both = head.loss(raw, head.targets([labelled, Annotations('b')]))
    torch.testing.assert_close(both, head.loss({'logits': raw['logits'][:1]}, head.targets([labelled])))


def test_every_parameter_learns_and_one_batch_is_overfitted(
    head, labelled, names_without_gradient, overfit
) -> None:
    targets = head.targets([labelled, labelled])
    assert names_without_gradient(head, torch.rand(2, 8, 32, 32), targets) == []
    losses = overfit(head, torch.randn(2, 8, 32, 32), targets, 120, 2e-2)
    assert losses[-1] < 0.1 * losses[0], losses[::20]


def test_class_weights(trunk_grid) -> None:
    counts = [10.0 ** 4] * 17 + [10.0 ** 8]
    weights = OccupancyHead(trunk_grid, 4, losses=dict(class_counts=counts), task_grid=SMALL).class_weights_C
    assert weights[0] / weights[17] == pytest.approx(2.0) and weights.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    'wrong, word',
    [
        (dict(mask='radar'), 'mask'), (dict(losses=dict(class_weights=(1, 2))), 'class_weights'),
        (dict(losses=dict(density_weight=-1.0)), 'density_weight'), (dict(losses=dict(dice=1.0)), 'dice'),
        (dict(work_cell_m=0.7), 'whole number'),
        (dict(losses=dict(class_weights=[1.0] * 18, class_counts=[9.0] * 18)), 'both')],
)
def test_wrong_configuration_is_named(wrong, word, trunk_grid) -> None:
    with pytest.raises(ValueError, match=word):
        OccupancyHead(trunk_grid, 4, task_grid=SMALL, **wrong)


def test_wrong_voxels_are_named(trunk_grid, labelled) -> None:
    with pytest.raises(ValueError, match=r'sample occupied.*\(200, 200, 16\).*\(16, 12, 4\)'):
        OccupancyHead(trunk_grid, 4).targets([labelled])


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('threads', [1, 3])
def test_the_compiled_decoding_is_the_reference_one(dtype, threads) -> None:
    torch.manual_seed(0)
    # two blocks of cells and a bit; in bfloat16 with many ties
    logits = (4 * torch.randn(3 * 18, 30, 41)).to(dtype)
    logits[:18, 0, :4] = 0
    logits[18:36, 1, :4] = 1e4 * logits[18:36, 1, :4]
    expected, found = decode_reference(logits, (30, 41)), decode_compiled(logits, (30, 41), threads)
    best = logits.float().unflatten(0, (3, 18)).sort(1, descending=True).values
    assert ((best[:, 0] == best[:, 1]).sum() > 20) == (dtype == torch.bfloat16)
    np.testing.assert_array_equal(found.semantics_XYZ, expected.semantics_XYZ)
    assert found.confidence_XYZ.dtype == np.float16 and found.confidence_XYZ.shape == (41, 30, 3)
    assert_confidences_agree(found.confidence_XYZ, expected.confidence_XYZ, 1e-3)
    assert found.semantics_XYZ[0, 0, 0] == 0 and found.confidence_XYZ[0, 0, 0] == np.float16(1 / 18)


@pytest.mark.parametrize('coarse_YX', [(15, 20), (10, 40), (48, 64), (1, 1), (30, 20)])
@pytest.mark.parametrize('threads', [1, 3])
def test_coarse_logits_are_decoded_as_if_upsampled(coarse_YX, threads) -> None:
    torch.manual_seed(0)
    logits = 4 * torch.randn(3 * 18, *coarse_YX)
    fine = torch.nn.functional.interpolate(
        logits[None], size=(30, 40), mode='bilinear', align_corners=False).squeeze(0)
    expected = decode_reference(fine, (30, 40))
    for found in (decode_reference(logits, (30, 40)), decode_compiled(logits, (30, 40), threads)):
        differ = found.semantics_XYZ != expected.semantics_XYZ  # two classes within rounding of each other
        assert differ.mean() < 1e-3
        assert_confidences_agree(found.confidence_XYZ[~differ], expected.confidence_XYZ[~differ], 5e-3)


def assert_confidences_agree(found: np.ndarray, expected: np.ndarray, share: float) -> None:
    """But for float16's last digit, where the exact value is half-way."""
    gap = np.abs(found.view(np.int16).astype(int) - expected.view(np.int16))
    assert gap.max() <= 1 and (gap > 0).mean() < share


def test_the_compiled_confidence_before_rounding() -> None:
    row, best, total = (
        -np.linspace(0, 100, 5001, dtype=np.float32), np.zeros(5001, np.float32), np.ones(5001, np.float32))
    _add_exponentials(row, best, total)
    np.testing.assert_allclose(1 / total, 1 / (1 + np.exp(row.astype(np.float64))), rtol=1e-6)
    total[:] = 0
    _add_exponentials(row[:4000], best, total)
    np.testing.assert_allclose(total[:4000], np.exp(row[:4000].astype(np.float64)), rtol=1e-5)


def test_what_is_not_a_number_has_no_confidence() -> None:
    logits = torch.zeros(2, 36, 5, 6)
    logits[1, 20, 2, 3] = math.nan
    found = decode_occupancy(logits, (5, 6))
    assert np.isnan(found[1].confidence_XYZ).sum() == 1 and np.isnan(found[1].confidence_XYZ[3, 2, 1])
    assert np.isfinite(found[0].confidence_XYZ).all()
    coarse = decode_occupancy(logits, (10, 12))[1].confidence_XYZ
    np.testing.assert_array_equal(
        np.isnan(coarse), np.isnan(decode_reference(logits[1], (10, 12)).confidence_XYZ)
    )
    assert 0 < np.isnan(coarse).sum() < coarse[..., 1].size


def test_export_agrees(head, assert_exports) -> None:
    assert_exports(head, torch.rand(1, 8, 32, 32))
