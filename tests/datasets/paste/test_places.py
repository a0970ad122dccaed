"""Boxes that touch, the height of the ground, and what a beam sees first, worked out by hand."""
from __future__ import annotations

import math

import numpy as np
import pytest

from perception.core.contracts import RadarPoints
from perception.datasets.paste.places import Scan, ground_height, owners_of, radar_outside, touching_boxes


def box(x: float, y: float, z: float = 0.8, yaw: float = 0.0, size: tuple = (4.0, 2.0, 1.6)) -> np.ndarray:
    return np.array([x, y, z, *size, yaw, 0, 0])


def points(*rows: tuple) -> np.ndarray:
    """Rows x, y, z, ring, time lag as `LidarPoints` has them."""
    return np.array([[x, y, z, 10, ring, lag] for x, y, z, ring, lag in rows], np.float32)


@pytest.mark.parametrize(('other', 'touches'), [
    (box(13.9, 0), True), (box(14.1, 0), False),           # lengths of 4: end to end at 4
    (box(10, 1.9), True), (box(10, 2.1), False),           # widths of 2
    (box(12.9, 0, yaw=math.pi / 2), True), (box(13.1, 0, yaw=math.pi / 2), False),
    # on a diagonal: upright frames overlap, boxes do not, for along (1, 1) they reach 1 and 3 / sqrt(2)
    (box(13.6, 2.6, yaw=-math.pi / 4), False), (box(12.4, 1.6, yaw=-math.pi / 4), True),
    (box(10, 0, z=30), True)])                             # whatever their height
def test_boxes_that_touch_on_the_ground(other: np.ndarray, touches: bool) -> None:
    found = touching_boxes(box(10, 0), np.stack([other, box(-30, 0)]))
    assert found.tolist() == [touches, False]
    assert touching_boxes(other, box(10, 0)[None]).tolist() == [touches]


def test_no_boxes_no_overlap() -> None:
    assert touching_boxes(box(0, 0), np.zeros((0, 9))).tolist() == []


def ring_of_ground(height: float, count: int = 20) -> np.ndarray:
    """Points half a metre beside the left side of `box(10, 0)`."""
    return points(*((8.5 + 0.15 * i, 1.5, height, 0, 0) for i in range(count)))


def test_the_ground_is_the_lower_fifth_of_what_lies_beside_a_box() -> None:
    bush = points(*((10 + 0.01 * i, -1.5, 1.2, 0, 0) for i in range(10)))
    roof = points(*((10, 0, 1.6, 0, 0) for _ in range(50)))           # in the box
    far = points(*((10, 4.0, -1.0, 0, 0) for _ in range(50)))         # 3 m beside it
    cloud = np.concatenate([ring_of_ground(0.25), bush, roof, far])
    assert ground_height(cloud, box(10, 0)) == pytest.approx(0.25)
    assert math.isnan(ground_height(ring_of_ground(0.25, 7), box(10, 0)))
    assert math.isnan(ground_height(ring_of_ground(5.0), box(10, 0)))


ORIGIN = np.array([0.0, 0.0, 1.8])


def test_an_object_hides_what_is_behind_it_and_replaces_what_it_stands_on() -> None:
    frame = points(
        (20, 0, 0.9, 5, 0),       # behind, same ring and direction
        (20, 0, 0.9, 6, 0),       # another ring passes
        (20, 5, 0.9, 5, 0),       # another direction
        (7, 0, 0.9, 5, 0),        # before it
        (10, 0.5, 0.1, 20, 0))    # in its box
    scan = Scan(frame, ORIGIN, np.zeros((0, 9)))
    seen, stay = scan.look(points((9.9, 0.4, 0.9, 7, 0), (9.8, -0.3, 1.0, 5, 0)), box(10, 0))
    assert seen.tolist() == [True, True] and stay.tolist() == [True, True, True, True, False]

    # now straight ahead: the point at 7 m hides that of the object, which then hides nothing
    seen, stay = scan.look(points((9.8, 0, 0.9, 5, 0)), box(10, 0))
    assert seen.tolist() == [False] and stay.tolist() == [True, True, True, True, False]

    scan = Scan(frame[:3], ORIGIN, np.zeros((0, 9)))
    seen, stay = scan.look(points((9.8, 0, 0.9, 5, 0)), box(10, 0))
    assert seen.tolist() == [True] and stay.tolist() == [False, True, True]


def test_rings_that_are_not_known_are_elevations() -> None:
    frame = points((20, 0, 1.8, -1, 0), (20, 0, 3.0, -1, 0))
    seen, stay = Scan(frame, ORIGIN, np.zeros((0, 9))).look(points((9.8, 0, 1.82, -1, 0)), box(10, 0))
    assert seen.tolist() == [True] and stay.tolist() == [False, True]


def test_a_database_of_another_lidar_is_refused() -> None:
    scan = Scan(points((20, 0, 0.9, 5, 0)), ORIGIN, np.zeros((0, 9)))
    with pytest.raises(ValueError, match='ring: found points without one in the database'):
        scan.look(points((9.8, 0, 0.9, -1, 0)), box(10, 0))


def test_points_are_counted_by_whose_they_are() -> None:
    boxes = np.stack([box(10, 0), box(20, 0)])
    frame = points((10, 0, 0.8, 1, 0), (10, 0.5, 0.8, 1, 0.05), (20, 0, 0.8, 9, 0), (30, 0, 0.8, 9, 0))
    assert owners_of(frame, boxes).tolist() == [0, 0, 1, -1]
    scan = Scan(frame, ORIGIN, boxes)
    scan.add(points((15, 0, 0.8, 9, 0)), np.array([True, True, False, True]))
    assert scan.counts().tolist() == [2, 0, 1]
    assert scan.counts(scan.of_key_frame).tolist() == [1, 0, 1]


def test_radar_targets_in_a_box_go_whatever_their_height() -> None:
    rows = np.zeros((2, 8), np.float32)
    rows[:, :3] = [[10, 0, 9], [10, 2, 0]]
    assert radar_outside(RadarPoints(rows, np.ones(5, bool)), box(10, 0)[None]).tolist() == [False, True]
