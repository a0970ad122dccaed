"""Rotated IoU on values worked by hand, and suppression."""
from __future__ import annotations

import math

import numpy as np
import pytest

from perception.heads.detection.nms import circle_nms, rotated_iou, rotated_iou_reference, rotated_nms

UNIT = (0.0, 0.0, 2.0, 2.0, 0.0)
CASES = [(UNIT, UNIT, 1.0),
         (UNIT, (1.0, 0.0, 2.0, 2.0, 0.0), 2 / 6),
         (UNIT, (1.0, 1.0, 2.0, 2.0, 0.0), 1 / 7),
         (UNIT, (2.0, 0.0, 2.0, 2.0, 0.0), 0.0),
         (UNIT, (9.0, 9.0, 2.0, 2.0, 0.3), 0.0),
         (UNIT, (0.0, 0.0, 2.0, 2.0, math.pi / 2), 1.0),
         (UNIT, (0.0, 0.0, 2.0, 2.0, math.pi / 4), 8 * (math.sqrt(2) - 1) / (8 - 8 * (math.sqrt(2) - 1))),
         ((0.0, 0.0, 4.0, 2.0, 0.0), (0.0, 0.0, 4.0, 2.0, math.pi / 2), 4 / 12),
         ((5.0, 5.0, 4.0, 4.0, 0.0), (5.0, 5.0, 2.0, 2.0, 0.7), 4 / 16),
         ((0.0, 0.0, 2.0, 2.0, 0.0), (1.0, 1.0, math.sqrt(2), math.sqrt(2), math.pi / 4), 0.5 / 5.5)]


@pytest.mark.parametrize('a, b, expected', CASES)
def test_iou_by_hand(a, b, expected) -> None:
    a, b = np.array(a), np.array(b)
    assert rotated_iou(a[None], b[None])[0, 0] == pytest.approx(expected, abs=1e-9)
    assert rotated_iou_reference(a, b) == pytest.approx(expected, abs=1e-9)


def test_fast_equals_reference_and_shapely() -> None:
    from shapely import affinity
    from shapely.geometry import box as rectangle
    rng = np.random.default_rng(0)
    boxes = np.concatenate(
        [rng.uniform(-3, 3, (25, 2)), rng.uniform(0.3, 5, (25, 2)), rng.uniform(-4, 4, (25, 1))], 1
    )
    fast = rotated_iou(boxes, boxes)

    def polygon(x, y, length, width, yaw):
        flat = rectangle(-length / 2, -width / 2, length / 2, width / 2)
        return affinity.translate(affinity.rotate(flat, yaw, (0, 0), use_radians=True), x, y)

    shapes = [polygon(*b) for b in boxes]
    for i in range(25):
        for j in range(25):
            exact = shapes[i].intersection(shapes[j]).area / shapes[i].union(shapes[j]).area
            assert fast[i, j] == pytest.approx(exact, abs=1e-6)
            assert rotated_iou_reference(boxes[i], boxes[j]) == pytest.approx(exact, abs=1e-6)


def test_circle_nms_keeps_the_best_of_each_class_in_reach() -> None:
    centres = np.array([[0, 0], [1, 0], [1.9, 0], [0.5, 0], [10, 0]])
    scores, labels = np.array([0.5, 0.9, 0.8, 0.7, 0.1]), np.array([0, 0, 0, 1, 0])
    assert circle_nms(centres, scores, labels, np.array([1.0, 1.0])).tolist() == [1, 3, 4]
    assert circle_nms(centres, scores, labels, np.array([0.8, 1.0])).tolist() == [1, 2, 3, 0, 4]


def test_rotated_nms_keeps_thin_neighbours() -> None:
    rectangles = np.array([[0, 0, 4, 0.2, 0], [0, 0.5, 4, 0.2, 0], [0.1, 0, 4, 0.2, 0]])
    kept = rotated_nms(rectangles, np.array([0.9, 0.8, 0.7]), np.zeros(3, int), np.array([0.2]))
    assert kept.tolist() == [0, 1]


def test_nothing_in_nothing_out() -> None:
    none = np.zeros((0, 2)), np.zeros(0), np.zeros(0, int)
    assert len(circle_nms(*none, np.ones(10))) == 0
    assert len(rotated_nms(np.zeros((0, 5)), *none[1:], np.ones(10))) == 0
