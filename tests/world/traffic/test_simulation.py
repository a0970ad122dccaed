"""The look-ahead of a car: where its front would first touch something on its way."""
from __future__ import annotations

import numpy as np
import pytest

from perception.world.traffic.simulation import LOOK_M, first_touch

LENGTH, WIDTH = 4.0, 2.0


def touch(xy: tuple[float, float], yaw: float, heading: float = 0.0) -> tuple[float, float]:
    """The metre at which a front 2 m wide touches a box, and the heading there against the box's."""
    metres = np.arange(0.0, LOOK_M)
    way = np.stack([metres * np.cos(heading), metres * np.sin(heading)], axis=-1)
    box = np.array([[*xy, yaw, LENGTH, WIDTH, 0.0, 1.0, 0.0]])
    first, turn = first_touch(
        way[None], np.full((1, LOOK_M), heading), np.zeros(1, np.int64), box, np.ones(1))
    return first[0], turn[0]


@pytest.mark.parametrize(('xy', 'yaw', 'metre'), [
    ((10.0, 0.0), 0.0, 9),  # its rear is at 8 m: the first whole metre inside
    ((10.0, 1.9), 0.0, 9),  # half of each width is 2 m
    ((10.0, 2.1), 0.0, 10 * LOOK_M),
    ((10.0, -2.9), np.pi / 2, 9),  # across the way: 1.2 m before its middle, up to 3 m to the side
    ((10.0, -3.1), np.pi / 2, 10 * LOOK_M),
    ((-6.0, 0.0), 0.0, 10 * LOOK_M),  # behind
    ((60.0, 0.0), 0.0, 10 * LOOK_M)])
def test_a_front_touches_a_box_where_it_should(xy: tuple[float, float], yaw: float, metre: int) -> None:
    first, turn = touch(xy, yaw)
    assert first == metre
    assert turn == pytest.approx(-yaw if first < LOOK_M else 0.0)


def test_turned_together_they_touch_at_the_same_metre() -> None:
    for angle in np.linspace(0.1, 6.2, 9):
        xy = (12.3 * np.cos(angle) - 0.7 * np.sin(angle), 12.3 * np.sin(angle) + 0.7 * np.cos(angle))
        assert touch(xy, angle + 0.4, angle)[0] == touch((12.3, 0.7), 0.4)[0]
