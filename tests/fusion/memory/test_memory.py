"""What every memory does: nothing at first, nothing without a past, and with one what stood still stays."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from perception.core.geometry import rotation_z
from perception.datasets.transforms.bev import bev_transform
from perception.fusion.memory.base import INPUTS
from perception.fusion.memory.motion import (
    OUTSIDE,
    MemoryLimits,
    before_T_now,
    reset_reason,
    sampling_grid,
    warp_maps,
    warp_maps_reference,
)
from perception.fusion.memory.variants import MapMemory
from tests.export_check import assert_exports
from tests.fusion.memory.drives import CHANNELS, GRID, MEMORIES, moved, spot, step, turning_car, woken

CHANGES = {
    'as it is': np.eye(4), 'mirrored': bev_transform(flip_y=True),
    'front to back': bev_transform(flip_x=True),
    'rotated': bev_transform(yaw_rad=0.4), 'scaled': bev_transform(scale=1.1),
    'all': bev_transform(True, True, -0.3, 0.9, (0.4, -0.2, 0.0))}
kinds = pytest.mark.parametrize('kind', MEMORIES)


class BehindAFuser(nn.Module):
    """A memory whose new map is computed, as in every model."""

    def __init__(self, memory: nn.Module) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, new_BCYX: Tensor, *remembered: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for part in self.memory(new_BCYX * 2, *remembered) if part is not None)


def test_warping_equals_the_reference():
    maps = torch.randn(2, 2, 5, 6)
    places = torch.rand(2, 4, 3, 2) * 2.6 - 1.3
    torch.testing.assert_close(warp_maps(maps, places), warp_maps_reference(maps, places))


def test_a_cell_is_read_where_it_was():
    """Two metres ahead, four cells of half a metre: what lies in a column now lay four columns on."""
    first, second = turning_car(2, turn_rad_s=0.0)
    maps = torch.randn(1, 1, *GRID.shape_YX)
    here = warp_maps(maps, torch.from_numpy(sampling_grid(GRID, before_T_now(first, second)))[None])
    torch.testing.assert_close(here[..., :-4], maps[..., 4:], rtol=0, atol=1e-4)
    assert not here[..., -4:].abs().max() > 1e-4


@pytest.mark.parametrize('change', CHANGES)
def test_a_still_post_stays_on_its_cell_for_twenty_frames(change: str):
    """Seen once; then the map is carried on alone, each time by one step of motion of a turning car."""
    frames = [moved(frame, CHANGES[change]) for frame in turning_car(20, 1.0, 0.12)]
    post = frames[10].global_T_ego @ np.array([4.2, 3.1, 0.0, 1.0])
    carried = spot(frames[0], post[:3])
    for before, now in zip(frames, frames[1:], strict=False):
        places = torch.from_numpy(sampling_grid(GRID, before_T_now(before, now)))
        carried = warp_maps(carried, places[None])
        expected = spot(now, post[:3])
        assert abs(int(carried[0, 0].argmax()) // 64 - int(expected[0, 0].argmax()) // 64) <= 1
        assert abs(int(carried[0, 0].argmax()) % 64 - int(expected[0, 0].argmax()) % 64) <= 1

    # its centre of mass is exact; only its edges blur
    centres = torch.from_numpy(GRID.centres_m())
    maps = (carried, spot(frames[-1], post[:3]))
    middle, wanted = ((m[0, 0, ..., None] * centres).sum((0, 1)) / m[0, 0].sum() for m in maps)
    assert (middle - wanted).norm() < 0.05


@kinds
@torch.no_grad()
def test_at_step_zero_the_new_map_goes_through_to_the_bit(kind: str):
    memory = MEMORIES[kind]()
    streams = memory.new_streams()
    for mode in (True, False):
        memory.train(mode)
        for frame in turning_car(3):
            new = torch.randn(1, CHANNELS, *GRID.shape_YX)
            assert torch.equal(step(memory, streams, frame, new), new)
        streams.forget()


@kinds
def test_at_step_zero_it_can_learn(kind: str):
    memory, streams = MEMORIES[kind]().train(), MEMORIES[kind]().new_streams()
    first, second = turning_car(2)
    step(memory, streams, first, torch.randn(1, CHANNELS, *GRID.shape_YX))
    inputs = memory.prepare(streams.recall([second]), [second], 'cpu')
    joined, _, moved = memory(torch.randn(1, CHANNELS, *GRID.shape_YX), **inputs)
    (joined.square().sum() + (0 if moved is None else moved.sum())).backward()
    assert all(p.grad is not None for p in memory.parameters())
    assert any(p.grad.abs().sum() > 0 for p in memory.parameters())


@kinds
@torch.no_grad()
def test_an_absent_memory_full_of_nan_changes_nothing(kind: str):
    memory, new = woken(MEMORIES[kind]()), torch.randn(2, CHANNELS, *GRID.shape_YX)
    inputs = memory.prepare([(), ()], turning_car(2), 'cpu')
    spoilt = {**inputs, 'maps': inputs['maps'] * torch.nan, 'age': inputs['age'] * torch.nan}
    joined, kept, moved = memory(new, **spoilt)
    assert (moved is None) == (kind != 'map and motion')
    assert moved is None or not moved.any()
    assert torch.equal(joined, new)
    assert torch.equal(kept, new)

    # of a queue the rest may be absent
    present = inputs['present'].clone()
    present[:, 0] = True
    maps = inputs['maps'].clone()
    clean = memory(new, **{**inputs, 'maps': maps, 'present': present})[0]
    maps[:, 1:] = torch.nan
    assert torch.equal(memory(new, **{**inputs, 'maps': maps, 'present': present})[0], clean)
    assert not torch.equal(clean, new)


@kinds
@torch.no_grad()
def test_statistics_stand_still_where_nobody_has_a_past(kind: str):
    memory = MEMORIES[kind]().train()
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    new = torch.randn(1, CHANNELS, *GRID.shape_YX)
    memory(new, **memory.prepare([()], turning_car(1), 'cpu'))
    assert all(torch.equal(before[name], value) for name, value in memory.state_dict().items())


@torch.no_grad()
def test_motion_is_seen_five_cells_far_and_nothing_at_first():
    memory, new = MapMemory(GRID, 16, motion_channels=5).eval(), torch.randn(1, 16, *GRID.shape_YX)
    frames = turning_car(2)
    streams = memory.new_streams()
    step(memory, streams, frames[0], new)
    inputs = memory.prepare(streams.recall([frames[1]]), [frames[1]], 'cpu')
    assert not memory(new, **inputs)[2].any()

    memory = woken(memory)
    changed = new.clone()
    changed[:, :, 20, 30] += 1
    difference = (memory(changed, **inputs)[2] - memory(new, **inputs)[2]).abs().sum((0, 1))
    rows, columns = torch.nonzero(difference > 1e-6).unbind(1)
    # coarse cells are two long, and the way back to fine ones mixes neighbours
    assert 4 <= int((rows - 20).abs().max()) <= 8 and 4 <= int((columns - 30).abs().max()) <= 8


@pytest.mark.parametrize('kind', ['map', 'queue'])
@torch.no_grad()
def test_half_of_the_channels_moved_are_all_of_them_moved(kind: str):
    """The published order: move the whole maps, then one convolution over everything side by side."""
    memory, frames = woken(MEMORIES[kind]()), turning_car(4)
    memory.of_age.weight.mul_(3.0)
    streams = memory.new_streams()
    for frame in frames[:3]:
        step(memory, streams, frame, torch.randn(1, CHANNELS, *GRID.shape_YX))
    inputs = memory.prepare(streams.recall(frames[3:]), frames[3:], 'cpu')
    new = torch.randn(1, CHANNELS, *GRID.shape_YX)
    assert inputs['present'].all()

    warped = warp_maps(inputs['maps'][0], inputs['grid'][0]).flatten(0, 1)[None]
    ages = inputs['age'][:, :, None, None].expand(-1, -1, *GRID.shape_YX)
    parts = (memory.of_new, *memory.of_earlier, memory.of_age)
    conv = torch.cat([part.weight for part in parts], 1)
    seen = torch.cat([new, warped, ages], 1)
    expected = new + memory.gate(memory.norm(nn.functional.conv2d(seen, conv)).relu())
    torch.testing.assert_close(memory(new, **inputs)[0], expected, rtol=1e-5, atol=1e-5)
    assert (expected - new).abs().max() > 0.1


@kinds
def test_absent_maps_full_of_nan_leave_gradients_finite(kind: str):
    memory, new = MEMORIES[kind]().train(), torch.randn(2, CHANNELS, *GRID.shape_YX)
    inputs = memory.prepare([(), ()], turning_car(2), 'cpu')
    inputs['maps'][0], inputs['present'][1, 0] = torch.nan, True
    joined, _, moved = memory(new, **inputs)
    (joined.square().sum() + (0 if moved is None else moved.sum())).backward()
    assert all(p.grad.isfinite().all() for p in memory.parameters())


@pytest.mark.parametrize('change', [name for name in CHANGES if name != 'as it is'])
@kinds
@torch.no_grad()
def test_changed_clips_agree_with_their_originals(kind: str, change: str):
    """A clip that is mirrored, turned or scaled as a whole, or only from its second frame on: what is joined
    lies where the changed frame has it."""
    post = turning_car(1)[0].global_T_ego @ np.array([5.0, 2.0, 0.0, 1.0])
    found = {}
    for way in ('original', 'whole', 'from the second on'):
        memory, frames = woken(MEMORIES[kind]()), turning_car(4)
        changed = {'original': (), 'whole': range(4), 'from the second on': range(1, 4)}[way]
        frames = [moved(f, CHANGES[change]) if i in changed else f for i, f in enumerate(frames)]
        streams = memory.new_streams()
        for frame in frames:
            joined = step(memory, streams, frame, spot(frame, post[:3], 2.0))
        found[way] = joined

    # the original's answer, read where the changed frame has each of its cells
    old_T_new = np.linalg.inv(CHANGES[change])
    places = torch.from_numpy(sampling_grid(GRID, old_T_new))[None]
    expected, inside = warp_maps(found['original'], places), (places.abs() < 0.6).all(-1)[:, None]
    for way in ('whole', 'from the second on'):
        assert ((found[way] - expected) * inside).abs().max() < 0.12 * expected.abs().max(), way


@kinds
@torch.no_grad()
def test_it_is_one_graph_with_one_grid_sample(kind: str, tmp_path):
    memory = woken(MEMORIES[kind]())
    streams, frames = memory.new_streams(), turning_car(3)
    for frame in frames[:2]:
        step(memory, streams, frame, torch.randn(1, CHANNELS, *GRID.shape_YX))
    inputs = {'new_BCYX': torch.randn(1, CHANNELS, *GRID.shape_YX)}
    inputs |= memory.prepare(streams.recall(frames[2:]), frames[2:], 'cpu')
    assert set(inputs) - {'new_BCYX'} == set(INPUTS)
    assert_exports(BehindAFuser(memory), tuple(inputs.values()), tmp_path)
    nodes = onnx.load(str(tmp_path / 'module.onnx')).graph.node
    assert [node.op_type for node in nodes].count('GridSample') == 1


def test_reasons_to_start_over():
    limits, (first, second) = MemoryLimits(), turning_car(2)

    def reason(now, before=first):
        return reset_reason(before, now, limits)
    assert reason(second) is None
    assert reason(replace(second, scene='another')) == 'new drive'
    assert reason(first, second) == 'order'
    assert reason(replace(second, timestamp_ns=first.timestamp_ns)) == 'order'
    assert reason(replace(second, timestamp_ns=first.timestamp_ns + 2_100_000_000)) == 'age'
    assert reason(replace(second, global_T_ego=np.full((4, 4), np.nan))) == 'no pose'
    far = second.global_T_ego.copy()
    far[0, 3] += 40
    assert reason(replace(second, global_T_ego=far)) == 'pose jump'
    assert reason(replace(second, global_T_ego=second.global_T_ego @ rotation_z(3.0))) is None
    with pytest.raises(ValueError, match='MemoryLimits.max_age_s: expected a positive number, found 0'):
        MemoryLimits(max_age_s=0)


def test_the_grid_of_a_far_place_is_finite():
    far = np.eye(4)
    far[:3, 3] = 1e7
    assert np.abs(sampling_grid(GRID, far)).max() == OUTSIDE
