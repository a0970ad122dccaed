"""What is remembered of which drive, for how long, and what makes it start over."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.fusion.memory.motion import MemoryLimits
from perception.fusion.memory.streams import Streams, WrongOrderError
from tests.fusion.memory.drives import turning_car

MAP = torch.ones(1, 2, 3, 3)


def test_the_newest_come_first_and_no_more_than_there_is_room_for():
    streams = Streams(slots=2)
    for number, frame in enumerate(turning_car(4)):
        known = streams.recall([frame])[0]
        assert [one.frame.token for one in known] == [f'f{number - i}' for i in (1, 2) if number >= i]
        streams.keep([frame], MAP * number)
    assert not streams.resets


def test_a_lost_frame_only_makes_it_older():
    streams, frames = Streams(), turning_car(6)
    streams.keep(frames[:1], MAP)
    assert [len(streams.recall([frame])[0]) for frame in frames[1:]] == [1, 1, 1, 1, 0]
    assert streams.resets == {'age': 1}
    assert Streams(limits=MemoryLimits(max_age_s=0.4)).recall(frames[1:2]) == [()]


def test_drives_do_not_leak_into_each_other():
    streams, frames = Streams(), turning_car(2)
    streams.keep(frames[:1], MAP)
    assert streams.recall([replace(frames[1], scene='another')]) == [()]
    assert streams.recall([replace(frames[1], stream='drive, second part')]) == [()]
    assert streams.resets == {'new drive': 2}
    assert len(streams.recall(frames[1:])[0]) == 1

    # frames without a name of their drive have no past and leave none
    nobody = replace(frames[0], scene='')
    streams.keep([nobody], MAP)
    assert streams.recall([replace(frames[1], scene='')]) == [()]
    streams.only([replace(frames[1], scene='another')])
    assert len(streams) == 0


def test_wrong_order_is_an_error_or_starts_over():
    first, second = turning_car(2)
    strict, lenient = Streams(), Streams(strict=False)
    for streams in (strict, lenient):
        streams.keep([second], MAP)
    with pytest.raises(WrongOrderError, match=r"drive 'drive': frame f0 \(1000000000 ns\) came after f1"):
        strict.recall([first])
    assert lenient.recall([first]) == [()]
    assert lenient.resets == {'order': 1}
    assert strict.recall([second]) == [()]  # the same frame again, as whoever measures time calls it
    with pytest.raises(WrongOrderError, match='frame f1 .1000000000 ns. came after f1 .1500000000 ns.'):
        strict.recall([replace(first, token='f1')])  # all frames by one name are not one frame
    with pytest.raises(ValueError, match="one frame of a drive at a time, found 2 of 'drive'"):
        strict.recall([first, second])


def test_what_is_not_finite_is_not_remembered():
    streams, frames = Streams(), turning_car(4)
    streams.keep(frames[:1], MAP)
    streams.keep(frames[1:2], MAP * torch.nan)
    assert streams.recall(frames[2:3]) == [()]
    streams.keep([replace(frames[2], global_T_ego=np.full((4, 4), np.nan))], MAP)
    assert streams.recall(frames[3:]) == [()]
    assert streams.resets == {'not finite': 1}


def test_what_a_checkpoint_keeps_comes_back():
    streams, frames = Streams(slots=2), turning_car(3)
    for number, frame in enumerate(frames[:2]):
        streams.keep([replace(frame, stream='part')], MAP * number)
    other = Streams(slots=2)
    other.load(streams.state())
    expected, found = (s.recall([replace(frames[2], stream='part')])[0] for s in (streams, other))
    assert len(found) == len(expected) == 2
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.map_CYX, b.map_CYX)
        assert np.array_equal(a.frame.global_T_ego, b.frame.global_T_ego)
        assert (a.frame.token, a.frame.timestamp_ns) == (b.frame.token, b.frame.timestamp_ns)
