"""Non-maximum suppression on the ground: by distance of centres, or by IoU of rotated rectangles.

A rectangle is (x, y, length, width, yaw), metres and radians.
"""
from __future__ import annotations

import numba
import numpy as np


def circle_nms(
    centres_M2: np.ndarray,
    scores_M: np.ndarray,
    labels_M: np.ndarray,
    radius_m_of_label: np.ndarray,
) -> np.ndarray:
    """Keep the best box of each class within its class's radius.

    Returns:
        Indices of the kept boxes, best first.
    """
    order = np.argsort(-scores_M, kind='stable')
    radius_M = np.asarray(radius_m_of_label, dtype=np.float64)[labels_M[order]]
    keep = _circle_keep(centres_M2[order].astype(np.float64), labels_M[order].astype(np.int64), radius_M)
    return order[keep]


@numba.njit(cache=True)
def _circle_keep(centres: np.ndarray, labels: np.ndarray, radius: np.ndarray) -> np.ndarray:
    keep = np.ones(len(labels), dtype=np.bool_)
    for i in range(len(labels)):
        if not keep[i]:
            continue

        for j in range(i + 1, len(labels)):
            dx = centres[i, 0] - centres[j, 0]
            dy = centres[i, 1] - centres[j, 1]
            if labels[i] == labels[j] and dx * dx + dy * dy <= radius[i] * radius[i]:
                keep[j] = False
    return keep


def rotated_nms(
    rectangles_M5: np.ndarray,
    scores_M: np.ndarray,
    labels_M: np.ndarray,
    iou_of_label: np.ndarray,
) -> np.ndarray:
    """Keep the best box of each class among those that overlap by more than its class's IoU.

    Returns:
        Indices of the kept boxes, best first.
    """
    order = np.argsort(-scores_M, kind='stable')
    iou_M = np.asarray(iou_of_label, dtype=np.float64)[labels_M[order]]
    keep = _rotated_keep(rectangles_M5[order].astype(np.float64), labels_M[order].astype(np.int64), iou_M)
    return order[keep]


@numba.njit(cache=True)
def _rotated_keep(rectangles: np.ndarray, labels: np.ndarray, iou: np.ndarray) -> np.ndarray:
    keep = np.ones(len(labels), dtype=np.bool_)
    for i in range(len(labels)):
        if not keep[i]:
            continue

        for j in range(i + 1, len(labels)):
            if keep[j] and labels[i] == labels[j] and _pair_iou(rectangles[i], rectangles[j]) > iou[i]:
                keep[j] = False
    return keep


@numba.njit(cache=True)
def rotated_iou(a_M5: np.ndarray, b_N5: np.ndarray) -> np.ndarray:
    """Compute the IoU of every rectangle of a with every one of b: float64 `(M, N)`.

    `rotated_iou_reference` is the reference implementation.
    """
    result = np.zeros((len(a_M5), len(b_N5)))
    for m in range(len(a_M5)):
        for n in range(len(b_N5)):
            result[m, n] = _pair_iou(a_M5[m], b_N5[n])
    return result


@numba.njit(cache=True)
def _pair_iou(a: np.ndarray, b: np.ndarray) -> float:
    # rectangles whose circumscribed circles do not touch: most pairs
    reach = (np.hypot(a[2], a[3]) + np.hypot(b[2], b[3])) / 2
    if np.hypot(a[0] - b[0], a[1] - b[1]) >= reach:
        return 0.0

    # in the frame of b, its four sides are limits of one coordinate each
    c, s = np.cos(b[4]), np.sin(b[4])
    polygon, count = _corners_in(a, b, c, s), 4
    for axis in range(2):
        for sign in (1.0, -1.0):
            polygon, count = _cut(polygon, count, axis, sign, b[2 + axis] / 2)

    overlap = _area(polygon, count)
    union = a[2] * a[3] + b[2] * b[3] - overlap
    return overlap / union if union > 0 else 0.0


@numba.njit(cache=True)
def _corners_in(a: np.ndarray, b: np.ndarray, c: float, s: float) -> np.ndarray:
    """Corners of a, counter-clockwise, in the frame of b; room for the corners that cutting adds."""
    polygon = np.zeros((16, 2))
    ca, sa = np.cos(a[4]), np.sin(a[4])
    for k in range(4):
        x = a[2] / 2 if k in (0, 3) else -a[2] / 2
        y = a[3] / 2 if k < 2 else -a[3] / 2
        east, north = a[0] + x * ca - y * sa - b[0], a[1] + x * sa + y * ca - b[1]
        polygon[k, 0], polygon[k, 1] = east * c + north * s, north * c - east * s
    return polygon


@numba.njit(cache=True)
def _cut(polygon: np.ndarray, count: int, axis: int, sign: float, limit: float) -> tuple[np.ndarray, int]:
    """The part of a convex polygon where sign * coordinate <= limit (Sutherland & Hodgman 1974)."""
    result, kept = np.zeros((16, 2)), 0
    for k in range(count):
        start, end = polygon[k], polygon[(k + 1) % count]
        start_room = limit - sign * start[axis]
        end_room = limit - sign * end[axis]

        if start_room >= 0:
            result[kept] = start
            kept += 1
        # the edge crosses the limit
        if (start_room >= 0) != (end_room >= 0):
            result[kept] = start + (end - start) * (start_room / (start_room - end_room))
            kept += 1
    return result, kept


@numba.njit(cache=True)
def _area(polygon: np.ndarray, count: int) -> float:
    total = 0.0
    for k in range(count):
        n = (k + 1) % count
        total += polygon[k, 0] * polygon[n, 1] - polygon[n, 0] * polygon[k, 1]
    return abs(total) / 2


def rotated_iou_reference(a_5: np.ndarray, b_5: np.ndarray) -> float:
    """Reference implementation of `rotated_iou`, for one pair: a's outline is cut with b's four sides."""
    polygon = _outline(a_5)
    corners = _outline(b_5)
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        polygon = _left_of(polygon, start, end)

    overlap = _shoelace(polygon)
    return overlap / (_shoelace(_outline(a_5)) + _shoelace(corners) - overlap)


def _outline(rectangle_5: np.ndarray) -> list[np.ndarray]:
    """Corners, counter-clockwise."""
    x, y, length, width, yaw = rectangle_5
    centre = np.array([x, y])
    forward = np.array([np.cos(yaw), np.sin(yaw)]) * length / 2
    left = np.array([-np.sin(yaw), np.cos(yaw)]) * width / 2
    return [
        centre + forward + left, centre - forward + left, centre - forward - left, centre + forward - left]


def _left_of(polygon: list[np.ndarray], start: np.ndarray, end: np.ndarray) -> list[np.ndarray]:
    """The part of a convex polygon to the left of the line from `start` to `end`."""
    side = end - start
    heights = [side[0] * (p - start)[1] - side[1] * (p - start)[0] for p in polygon]

    result = []
    for k, corner in enumerate(polygon):
        n = (k + 1) % len(polygon)
        if heights[k] >= 0:
            result.append(corner)
        if (heights[k] >= 0) != (heights[n] >= 0):
            result.append(corner + (polygon[n] - corner) * heights[k] / (heights[k] - heights[n]))
    return result


def _shoelace(polygon: list[np.ndarray]) -> float:
    """Area of a polygon."""
    following = polygon[1:] + polygon[:1]
    return abs(sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, following, strict=True))) / 2
