"""What every head promises, whatever its task."""
from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.core.contracts import (
    Annotations,
    Boxes3D,
    DetectionClasses,
    LanePolylines,
    Lanes,
    MapSegmentation,
    Occupancy,
    OccupancyLabels,
)
from perception.core.grid import BEVGrid
from perception.core.protocols import TASKS
from perception.heads.base import TaskHead
from perception.registry import MODELS

PREDICTIONS = dict(detection=Boxes3D, map_segmentation=MapSegmentation, occupancy=Occupancy, lanes=Lanes)
TRUNK = dict(type='BEVGrid', x_range_m=(-19.2, 32.0), y_range_m=(-25.6, 25.6), cell_m=1.6)
CONFIGS = {
    'detection': dict(
        type='CenterHead', shared_channels=8, branches=dict(channels=8), decoding=dict(score_threshold=0.0)
    ),
    'map_segmentation': dict(type='MapSegmentationHead', width=8),
    'occupancy': dict(type='OccupancyHead', width=8, work_cell_m=1.6, losses=dict(voxels_per_sample=2000)),
    'lanes': dict(
        type='LaneHead', features=dict(width=8, cell_m=3.0),
        decoder=dict(instances=6, points=4, layers=2, feedforward=8)),
}


@pytest.fixture(params=TASKS)
def head(request) -> TaskHead:
    torch.manual_seed(0)
    return MODELS.build(dict(CONFIGS[request.param], grid=TRUNK, in_channels=8))


@pytest.fixture(scope='module')
def everything(boxed: Annotations, mapped: Annotations) -> Annotations:
    """One sample with labels of all four tasks."""
    semantics = np.full((200, 200, 16), 17, dtype=np.uint8)
    semantics[:, :, 2] = 11
    lines = (np.array([[-40, 4], [40, 5]], np.float32), np.array([[-40, -4], [40, -4]], np.float32))
    return Annotations('all', boxed.boxes, mapped.map_layers,
                       OccupancyLabels(semantics, np.ones_like(semantics), np.ones_like(semantics)),
                       LanePolylines(lines, np.array([0, 2]), 60.0))


def test_every_task_has_its_head(head) -> None:
    assert isinstance(head, TaskHead) and head.task in TASKS


@pytest.mark.parametrize('batch', [1, 3])
def test_predictions_of_a_batch(head, batch) -> None:
    predictions = head.eval().decode(head(torch.rand(batch, 8, 32, 32)))
    assert len(predictions) == batch and all(isinstance(one, PREDICTIONS[head.task]) for one in predictions)
    words = (tuple, DetectionClasses)
    fields = [value for value in vars(predictions[0]).values() if not isinstance(value, words)]
    assert all(isinstance(value, np.ndarray) for value in fields)


def test_training_outputs_decode_too(head) -> None:
    predictions = head.train().decode(head(torch.rand(2, 8, 32, 32)))
    assert all(isinstance(one, PREDICTIONS[head.task]) for one in predictions)


def test_bfloat16_trains(head, everything) -> None:
    bev = torch.rand(2, 8, 32, 32, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.train().loss(head(bev), head.targets([everything, Annotations('none')]))
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert torch.isfinite(bev.grad).all() and bev.grad.any()


def test_losses_have_names_and_no_negative_values(head, everything) -> None:
    losses = head.train().loss(head(torch.rand(1, 8, 32, 32)), head.targets([everything]))
    assert losses and all(
        value.ndim == 0 and value.item() >= 0 and '.' not in name for name, value in losses.items()
    )


def test_the_grid_is_not_part_of_the_weights(head) -> None:
    other = MODELS.build(dict(CONFIGS[head.task], grid=dict(TRUNK, x_range_m=(-25.6, 25.6)), in_channels=8))
    found = other.load_state_dict(head.state_dict(), strict=True)
    assert not found.missing_keys and not found.unexpected_keys


def test_evaluation_does_not_depend_on_the_rest_of_the_batch(head) -> None:
    bev = torch.rand(2, 8, 32, 32)
    both, alone = head.eval()(bev), head(bev[1:])
    for name, value in alone.items():
        torch.testing.assert_close(value[0], both[name][1], atol=1e-5, rtol=1e-4)


@pytest.fixture(scope='session')
def engine_operators() -> set[str]:
    """Operators that an engine holds without plugins, from the published table, or a visible skip where it is
    not available."""
    beside = Path(__file__).resolve().parents[3] / 'shared' / 'tensorrt_operators.csv'
    path = Path(os.environ.get('PERCEPTION_ENGINE_OPERATORS', beside))
    if not path.is_file():
        pytest.skip(f'no operator table at {path} (set PERCEPTION_ENGINE_OPERATORS)')
    with path.open() as lines:
        return {row['operator'] for row in csv.DictReader(lines) if row['supported'] == 'yes'}


def test_engines_hold_every_operator(
    head, engine_operators, assert_exports: Callable[..., list[str]]
) -> None:
    used = set(assert_exports(head, torch.rand(1, 8, 32, 32)))
    assert used <= engine_operators, sorted(used - engine_operators)
    assert not used & {
        'NonZero', 'Unique', 'Compress', 'If', 'Loop', 'Scan', 'TopK', 'ScatterND', 'ScatterElements'}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many dimensions every reading of a map had."""
    found, original = [], torch.nn.functional.grid_sample

    def counted(maps: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        found.append(maps.ndim)
        return original(maps, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, 'grid_sample', counted)
    yield found


def test_maps_are_read_in_four_dimensions(head, reads) -> None:
    head.eval()(torch.rand(1, 8, 32, 32))
    assert set(reads) <= {4} and bool(reads) == (head.task != 'detection')


def test_a_grid_off_centre_keeps_its_metres(head, everything) -> None:
    """Decoded truth lies where the labels lie, though the trunk's grid is not centred on the car."""
    if head.task != 'detection':
        assert head.task_grid.x_range_m[0] == -head.task_grid.x_range_m[1]
        return
    from perception.heads.detection.targets import as_raw
    found = head.decode(as_raw(head.targets([everything]), 1))[0]
    best = found.boxes_M9[found.labels_M == 0][0]
    np.testing.assert_allclose(best[:7], everything.boxes.boxes_M9[0, :7], atol=1e-4)
    assert head.grid == BEVGrid((-19.2, 32.0), (-25.6, 25.6), 1.6)
