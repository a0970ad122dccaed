"""A whole model with a memory: as without one at first, behind every fuser, on drives and on clips."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, Batch
from perception.core.grid import BEVGrid
from perception.fusion.mafi import MAFI
from perception.fusion.memory.base import add_to_first
from perception.fusion.memory.motion import before_T_now
from perception.fusion.memory.streams import WrongOrderError
from perception.fusion.memory.variants import GatedMemory, MapMemory, MapQueue
from perception.fusion.meta_bev import MetaBEV
from perception.fusion.trunk import Trunk
from perception.model import MultiTaskPerception
from perception.registry import MODELS
from perception.training.balancing.gradients import forward_apart
from tests.fusion.memory.drives import turning_car
from tests.helpers import GRID, make_batch, make_model

CHANNELS = {'camera': 12, 'lidar': 12}
KINDS = {
    'map': MapMemory, 'queue': MapQueue, 'gated': GatedMemory,
    'motion': lambda grid, channels: MapMemory(grid, channels, motion_channels=16)}
FUSERS = {
    'concat': None, 'mafi': lambda: MAFI(CHANNELS, 16),
    'meta-BEV': lambda: MetaBEV(
        CHANNELS, 16, GRID, width=16, heads=2, points=2, cross_layers=1, self_layers=1, query_stride=2)}
LABELS = [Annotations('a'), Annotations('bbb')]


def with_memory(kind: str = 'map', fuser: str = 'concat', awake: bool = False) -> MultiTaskPerception:
    """The small model with a memory, whose other weights are those of the model without."""
    torch.manual_seed(1)
    model = make_model(memory=KINDS[kind](GRID, 16))
    if FUSERS[fuser] is not None:
        torch.manual_seed(1)
        model.fuser = FUSERS[fuser]()
    if awake:
        generator = torch.Generator().manual_seed(5)
        for parameter in model.memory.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def drive(frames: int, samples: int = 2) -> list[Batch]:
    """Frames of as many drives as samples, normalised."""
    cars = turning_car(frames)
    preprocessor = make_model().data_preprocessor
    return [
        preprocessor({'inputs': replace(make_batch(samples, seed=i), frames=tuple(
            replace(car, token=f'{car.token}-{b}', scene=f'drive {b}') for b in range(samples)))})['inputs']
        for i, car in enumerate(cars)]


@pytest.mark.parametrize('fuser', FUSERS)
@pytest.mark.parametrize('kind', KINDS)
def test_a_new_memory_equals_the_single_frame_model_to_the_bit(kind: str, fuser: str):
    model = with_memory(kind, fuser)
    alone = with_memory(kind, fuser)
    alone.memory = None
    for mode in (True, False):
        for batch in drive(2):
            a, b = (m.train(mode).loss(batch, LABELS) for m in (model, alone))
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(not streams.resets for streams in model.memory.streams.values())


@torch.no_grad()
def test_the_model_follows_its_drives():
    model = with_memory(awake=True).eval()
    first, second = drive(2)
    model(first, mode='predict')
    followed = model(second, mode='predict')[0].map_segmentation.probabilities_6YX

    # the same by hand: the new memory of the first frame is an input of the second
    raw = model(first, mode='tensor')
    streams = model.memory.new_streams()
    streams.keep(first.frames, raw['memory.map'])
    by_hand = model(model.prepare(second, streams), mode='tensor')['map_segmentation.logits'].sigmoid()
    assert torch.equal(torch.from_numpy(followed), by_hand[0])
    alone = model(second, mode='tensor')['map_segmentation.logits'].sigmoid()
    assert not torch.equal(by_hand, alone)

    # another drive does not leak in, and neither does training
    model.forget()
    fresh = model(second, mode='predict')[0].map_segmentation.probabilities_6YX
    assert torch.equal(torch.from_numpy(fresh), alone[0])
    with pytest.raises(WrongOrderError):
        model(first, mode='predict')
    model.train()
    assert len(model.memory.streams[True]) == 0


def test_clips_carry_the_gradient_and_streams_do_not():
    model = with_memory(awake=True).train()
    first, second = drive(2)
    first.images_BN3HW.requires_grad_()
    sum(model.loss(first, LABELS).values()).backward()
    first.images_BN3HW.grad = None
    model.loss(second, LABELS)['loss/map_segmentation/square'].backward()
    assert first.images_BN3HW.grad is None

    clip = replace(second, before=(first,))
    model.loss(clip, LABELS)['loss/map_segmentation/square'].backward()
    assert first.images_BN3HW.grad.abs().sum() > 0


@torch.no_grad()
def test_a_clip_answers_as_the_drive_does():
    model = with_memory(awake=True).eval()
    batches = drive(3)
    for batch in batches:
        expected = model(batch, mode='predict')
    clip = replace(batches[2], before=tuple(batches[:2]))
    model.forget()
    found = model(clip, mode='predict')
    for a, b in zip(found, expected, strict=True):
        assert (a.map_segmentation.probabilities_6YX == b.map_segmentation.probabilities_6YX).all()

    # clips of one drive stand in one batch, each with a memory of its own
    for output in model(clip.select([0, 0]), mode='predict'):
        found, wanted = output.map_segmentation, expected[0].map_segmentation
        np.testing.assert_allclose(found.probabilities_6YX, wanted.probabilities_6YX, atol=1e-5)

    # what stands in for frames before the start of a drive says nothing
    blank = replace(batches[0], frames=tuple(frame.alone() for frame in batches[0].frames))
    padded = model(replace(batches[0], before=(blank, blank)), mode='predict')
    alone = model(batches[0], mode='predict')
    for a, b in zip(padded, alone, strict=True):
        assert (a.map_segmentation.probabilities_6YX == b.map_segmentation.probabilities_6YX).all()


@torch.no_grad()
@pytest.mark.parametrize('kind', ['map', 'queue'])
def test_further_forwards_of_a_batch_have_its_past_and_leave_the_memory(kind: str):
    model, alone = (with_memory(kind, awake=True).train() for _ in range(2))
    for batch in drive(3):
        inputs = {'inputs': batch, 'data_samples': LABELS}
        expected = alone(**inputs, mode='loss')
        found = [model(**inputs, mode='loss'), *(forward_apart(model, inputs) for _ in range(2))]
        assert all(torch.equal(losses[name], expected[name]) for losses in found for name in expected)

        # with other weights nothing of it stays either
        weight = next(model.fuser.parameters())
        kept = [one['map'] for one in model.memory.streams[True].state()]
        weight.mul_(2)
        forward_apart(model, inputs)
        weight.div_(2)
        assert all(torch.equal(one['map'], map_CYX) for one, map_CYX in zip(
            model.memory.streams[True].state(), kept, strict=True))
    assert not model.memory.streams[True].resets


def test_motion_comes_to_what_the_trunk_made_and_not_to_what_passed_it():
    bev, moved = torch.zeros(1, 5, 2, 2), torch.ones(1, 3, 2, 2)
    assert add_to_first(bev, moved)[0, :, 0, 0].tolist() == [1, 1, 1, 0, 0]
    assert add_to_first(bev[:, :3], moved)[0, :, 0, 0].tolist() == [1, 1, 1]


def test_it_is_built_from_a_configuration_and_says_what_is_wrong():
    grid = dict(type='BEVGrid', x_range_m=(-8.0, 8.0), y_range_m=(-8.0, 8.0), cell_m=1.0)
    memory = MODELS.build(dict(type='MapQueue', grid=grid, channels=4, slots=2, limits=dict(max_age_s=1.0)))
    assert isinstance(memory.grid, BEVGrid)
    assert memory.limits.max_age_s == 1.0
    with pytest.raises(ValueError, match='MapQueue.slots: expected a whole number above 0, found 0'):
        MODELS.build(dict(type='MapQueue', grid=grid, channels=4, slots=0))
    with pytest.raises(ValueError, match="memory.motion_channels: expected the trunk's 16 or 0, found 5"):
        make_model(memory=MapMemory(GRID, 16, motion_channels=5))
    parts, trunk = make_model(), Trunk(16, 16, (8, 8), (1, 1), passed_channels=4)
    with pytest.raises(ValueError, match="memory.motion_channels: expected the trunk's 16 or 0, found 20"):
        MultiTaskPerception(
            dict(parts.encoders), parts.fuser, trunk, dict(parts.heads),
            memory=MapMemory(GRID, 16, motion_channels=20))
    with pytest.raises(ValueError, match="MapMemory.limits: unknown option 'max_age'"):
        MODELS.build(dict(type='MapMemory', grid=grid, channels=4, limits=dict(max_age=1.0)))


def test_a_batch_of_clips_is_selected_whole():
    first, second = drive(2)
    chosen = replace(second, before=(first,)).select([1])
    assert [frame.token for frame in (*chosen.frames, *chosen.before[0].frames)] == ['f1-1', 'f0-1']
    with pytest.raises(ValueError, match='Batch.before: expected 2 samples in each, found 1'):
        replace(second, before=(first.select([0]),))
    assert before_T_now(first.frames[0], second.frames[0])[0, 3] == pytest.approx(2.0)
