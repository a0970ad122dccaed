"""Map segmentation: the protocol's grid, loss and head."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations
from perception.core.grid import BEVGrid
from perception.core.protocols import MAP_CLASSES, MAP_GRID
from perception.heads.map_segmentation import MapSegmentationHead
from perception.heads.map_segmentation.loss import focal_loss
from perception.heads.map_segmentation.targets import MapTargets, as_raw, draw_layers

SMALL = BEVGrid((-20, 20), (-20, 20), 1.0)


@pytest.fixture(params=['features', 'logits'])
def head(request, trunk_grid) -> MapSegmentationHead:
    torch.manual_seed(0)
    return MapSegmentationHead(trunk_grid, 8, width=16, resample=request.param, task_grid=SMALL)


def test_the_protocol(trunk_grid) -> None:
    head = MapSegmentationHead(trunk_grid, 12)
    assert MAP_GRID.shape_YX == (200, 200) and MAP_GRID.x_range_m == (-50, 50)
    convolutions = [m for m in head.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.bias is None) for c in convolutions] == [
        (12, 12, 3, True), (12, 12, 3, True), (12, 6, 1, False)]
    assert head.eval()(torch.rand(1, 12, 32, 32))['logits'].shape == (1, 6, 200, 200)


def test_targets_by_hand(mapped) -> None:
    masks = draw_layers(mapped.map_layers, SMALL)

    def at(name: str, x: float, y: float) -> int:
        column, row = np.floor(SMALL.to_cells(np.array([x, y]))).astype(int)
        return masks[MAP_CLASSES.index(name), row, column]

    assert (at('drivable_area', 15.5, 0.5), at('drivable_area', 0.5, 0.5), at('drivable_area', 0.5, 9.5)) == (
        1, 0, 0)
    assert (at('ped_crossing', 11.5, 3.5), at('ped_crossing', -11.5, 3.5), at('divider', 0.5, 3.5)) == (
        1, 0, 1)
    assert masks[MAP_CLASSES.index('walkway')].max() == 0 and masks.dtype == np.uint8


def test_vehicles_are_a_seventh_class(mapped, boxed, trunk_grid) -> None:
    """A car of 4.6 x 1.9 m turned by 0.4 rad covers its cells, a pedestrian and a cone cover none."""
    head = MapSegmentationHead(trunk_grid, 8, width=8, task_grid=SMALL, vehicles=True)
    both = Annotations('a', boxes=boxed.boxes, map_layers=mapped.map_layers)
    targets = head.targets([both, mapped, boxed])
    assert targets.labelled_B.tolist() == [True, False, False] and targets.masks_B6YX.shape == (3, 7, 40, 40)
    plain = MapSegmentationHead(trunk_grid, 8, width=8, task_grid=SMALL).targets([both])
    assert torch.equal(targets.masks_B6YX[0, :6], plain.masks_B6YX[0])

    rows, columns = targets.masks_B6YX[0, 6].nonzero().T
    x, y = columns + 0.5 - 20 - 10.3, rows + 0.5 - 20 + 4.2  # cells of 1 m from the car's centre
    along, across = x * np.cos(0.4) + y * np.sin(0.4), y * np.cos(0.4) - x * np.sin(0.4)
    # the map's rule rounds corners to whole cells and fills every cell that the outline touches
    assert 8 <= len(rows) <= 22 and along.abs().max() < 2.3 + 1 and across.abs().max() < 0.95 + 1

    raw = head(torch.rand(3, 8, 32, 32))
    assert raw['logits'].shape == (3, 7, 40, 40) and head.decode(raw)[0].classes[-1] == 'vehicle'
    perfect = head.loss(as_raw(targets), targets)['focal']
    assert perfect.item() < 1e-6
    wrong = as_raw(targets)
    wrong['logits'][0, 6] *= -1
    heavy = MapSegmentationHead(trunk_grid, 8, width=8, task_grid=SMALL, vehicles=True,
                                losses=dict(vehicle_weight=3.0))
    assert heavy.loss(wrong, targets)['focal'].item() == pytest.approx(
        3 * head.loss(wrong, targets)['focal'].item())


def test_loss_by_hand() -> None:
    logits, masks = torch.zeros(2, 6, 4, 4), torch.zeros(2, 6, 4, 4, dtype=torch.uint8)
    logits[0, 0] = math.log(3.0)
    masks[0, 0] = 1
    logits[1] = 50.0
    targets = MapTargets(masks, torch.tensor([True, False]), SMALL)
    expected = 0.0625 * math.log(4 / 3) + 5 * 0.25 * math.log(2)
    assert focal_loss(logits, targets, 2.0, (1,) * 6).item() == pytest.approx(expected, rel=1e-5)
    weighted = focal_loss(logits, targets, 2.0, (16, 0, 0, 0, 0, 0)).item()
    assert weighted == pytest.approx(math.log(4 / 3), rel=1e-5)


def test_truth_as_prediction(head, mapped) -> None:
    targets = head.targets([mapped])
    assert head.loss(as_raw(targets), targets)['focal'].item() < 1e-6
    prediction = head.decode(as_raw(targets))[0]
    expected = targets.masks_B6YX[0].numpy().astype(bool)
    np.testing.assert_array_equal(prediction.probabilities_6YX > 0.5, expected)
    assert (prediction.x_range_m, prediction.y_range_m) == (SMALL.x_range_m, SMALL.y_range_m)


def test_unlabelled_samples_cost_nothing(head, mapped, names_without_gradient) -> None:
    bev = torch.rand(2, 8, 32, 32)
    none = head.targets([Annotations('a'), Annotations('b')])
    assert head.loss(head(bev), none)['focal'].item() == 0
    assert names_without_gradient(head, bev, none, zeros_count=True) == []
    raw = {'logits': torch.randn(2, 6, 40, 40)}
    both = head.loss(raw, head.targets([mapped, Annotations('b')]))
    torch.testing.assert_close(both, head.loss({'logits': raw['logits'][:1]}, head.targets([mapped])))


def test_every_parameter_learns_and_one_batch_is_overfitted(
    head, mapped, names_without_gradient, overfit
) -> None:
    targets = head.targets([mapped, mapped])
    assert names_without_gradient(head, torch.rand(2, 8, 32, 32), targets) == []
    losses = overfit(head, torch.randn(2, 8, 32, 32), targets, 80, 2e-2)
    assert losses[-1] < 0.05 * losses[0], losses[::20]


@pytest.mark.parametrize(
    'wrong, word',
    [
        (dict(resample='both'), 'resample'),
        (dict(losses=dict(class_weights=(1, 2))), 'class_weights'),
        (dict(losses=dict(focus=2.0)), "unknown option 'focus'")],
)
def test_wrong_configuration_is_named(wrong, word, trunk_grid) -> None:
    with pytest.raises(ValueError, match=word):
        MapSegmentationHead(trunk_grid, 4, **wrong)


def test_export_agrees(head, assert_exports) -> None:
    assert 'GridSample' in assert_exports(head, torch.rand(2, 8, 32, 32))
