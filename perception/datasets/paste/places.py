"""Whether an object can stand at a place, how high the ground is there, and which points it hides."""
from __future__ import annotations

import math

import numpy as np

from ...core.contracts import RING, SIZE, TIME_LAG, XY, XYZ, YAW, RadarPoints
from ...core.geometry import box_corners, points_in_boxes

GROUND_REACH_M = 1.0
"""Around a box's sides, where its ground is looked for."""
_GROUND_BAND_M = 1.5
_GROUND_QUANTILE = 0.2
_FEWEST_GROUND_POINTS = 8
MOST_LIFT_M = 0.5
"""A place whose ground lies higher or lower by more is none for the object: it is a wall, or another road."""

COLUMNS = 720
"""Around the LiDAR: half a degree each."""
_ROWS = 256
_ROW_RAD = math.radians(0.6)
BEHIND_M = 0.2
"""Further along a beam than another point by this much: hidden by it."""


# -------------------------------------------------------------------- boxes on the ground

def touching_boxes(box_9: np.ndarray, boxes_M9: np.ndarray) -> np.ndarray:
    """Which rotated boxes touch another one on the ground: bool `(M,)`.

    Separating axes (Gottschalk et al. 1996): two rectangles are apart where their shadows on one of the four
    directions of their sides are.
    """
    reach_M = (np.hypot(boxes_M9[:, 3], boxes_M9[:, 4]) + np.hypot(box_9[3], box_9[4])) / 2
    near_M = np.hypot(boxes_M9[:, 0] - box_9[0], boxes_M9[:, 1] - box_9[1]) <= reach_M
    if near_M.any():
        near_M[near_M] = _rectangles_overlap(box_9, boxes_M9[near_M])
    return near_M


def _rectangles_overlap(box_9: np.ndarray, boxes_M9: np.ndarray) -> np.ndarray:
    ours_42 = box_corners(box_9[None].astype(np.float64))[0, :4, XY]
    theirs_M42 = box_corners(boxes_M9.astype(np.float64))[:, :4, XY]
    apart_M = np.zeros(len(boxes_M9), bool)

    for turn in (0.0, math.pi / 2):
        for yaw in (np.full(len(boxes_M9), box_9[YAW], np.float64), boxes_M9[:, YAW].astype(np.float64)):
            axes_M2 = np.stack([np.cos(yaw + turn), np.sin(yaw + turn)], 1)
            ours_M4 = axes_M2 @ ours_42.T
            theirs_M4 = np.einsum('mkd,md->mk', theirs_M42, axes_M2)
            apart_M |= (ours_M4.max(1) < theirs_M4.min(1)) | (theirs_M4.max(1) < ours_M4.min(1))
    return ~apart_M


def ground_height(points_P6: np.ndarray, box_9: np.ndarray) -> float:
    """Height of the ground around a box, from the points beside it; NaN where there are too few.

    It is the lower fifth of all points within a metre of the box's sides and 1.5 m of its lower face: leaves
    and walls lie above it, reflections far below it are not in the band.
    """
    reach = np.hypot(box_9[3], box_9[4]) / 2 + GROUND_REACH_M
    bottom = box_9[2] - box_9[5] / 2
    near = points_P6[
        (np.abs(points_P6[:, 0] - box_9[0]) <= reach) & (np.abs(points_P6[:, 1] - box_9[1]) <= reach)]
    near = near[np.abs(near[:, 2] - bottom) <= _GROUND_BAND_M]

    tall_9 = box_9.astype(np.float64)
    tall_9[5] = 1e3
    inside = points_in_boxes(near[:, XYZ].astype(np.float64), tall_9[None])[:, 0]
    tall_9[3:5] += 2 * GROUND_REACH_M
    around = points_in_boxes(near[:, XYZ].astype(np.float64), tall_9[None])[:, 0] & ~inside
    if around.sum() < _FEWEST_GROUND_POINTS:
        return math.nan
    return float(np.quantile(near[around, 2], _GROUND_QUANTILE))


def points_in_box(points: np.ndarray, box_9: np.ndarray, margin_m: float = 0.0) -> np.ndarray:
    """Which points `(P, 3+)` lie in one box: bool `(P,)`; far ones are not looked at closely."""
    reach = float(np.linalg.norm(box_9[SIZE])) / 2 + 2 * margin_m
    inside = (np.abs(points[:, 0] - box_9[0]) <= reach) & (np.abs(points[:, 1] - box_9[1]) <= reach)
    near = np.flatnonzero(inside)
    inside[near] = points_in_boxes(points[near, :3].astype(np.float64), box_9[None], margin_m)[:, 0]
    return inside


def owners_of(points: np.ndarray, boxes_M9: np.ndarray) -> np.ndarray:
    """Which box each point `(P, 3+)` lies in, the last where several do: int64 `(P,)`, -1 none."""
    owners_P = np.full(len(points), -1, np.int64)
    order = np.argsort(points[:, 0], kind='stable')
    along = points[order, 0]
    for number, box_9 in enumerate(boxes_M9.astype(np.float64)):
        reach = float(np.linalg.norm(box_9[SIZE])) / 2
        first, last = np.searchsorted(along, [box_9[0] - reach, box_9[0] + reach])
        near = order[first:last]
        owners_P[near[points_in_box(points[near], box_9)]] = number
    return owners_P


def radar_outside(radar: RadarPoints, boxes_M9: np.ndarray) -> np.ndarray:
    """Which radar points lie in none of the boxes, whatever their height: bool `(P,)`."""
    tall_M9 = boxes_M9.astype(np.float64)
    tall_M9[:, 5] = 1e4
    return ~points_in_boxes(radar.points_P8[:, XYZ].astype(np.float64), tall_M9).any(1)


# -------------------------------------------------------------------- what is seen along the beams

class Scan:
    """The points of a frame as the LiDAR's beams found them, into which objects are set one by one.

    A beam is a ring and half a degree; where rings are not known, 0.6 degrees of elevation in its place.
    Earlier sweeps are looked at from where the LiDAR is now, so their beams are nearly those.

    Args:
        points_P6: of the frame.
        origin_3: the LiDAR in ego; None: nothing is known to hide anything.
        boxes_M9: of the frame.

    Attributes:
        points_P6: those that are left.
        owners_P: which box each is in, those of objects that were added behind the frame's; -1 none.
    """

    def __init__(self, points_P6: np.ndarray, origin_3: np.ndarray | None, boxes_M9: np.ndarray) -> None:
        self.points_P6 = points_P6
        self.owners_P = owners_of(points_P6, boxes_M9)
        self._boxes = len(boxes_M9)
        self.origin_3 = origin_3
        self._rings = bool(len(points_P6)) and bool((points_P6[:, RING] >= 0).all())
        self._beams_P, self._ranges_P = self._along(points_P6)
        self._place_of = np.full(COLUMNS * _ROWS, -1)  # of a beam among those of an object that is looked at

    def _along(self, points_P6: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Beam of each point, and its distance along it (m)."""
        if self.origin_3 is None:
            return np.zeros(len(points_P6), np.int64), np.zeros(len(points_P6))

        x, y, z = (points_P6[:, XYZ] - self.origin_3.astype(np.float32)).T
        flat = np.hypot(x, y)
        column = ((np.arctan2(y, x) + math.pi) * (COLUMNS / (2 * math.pi))).astype(np.int64) % COLUMNS
        row = np.floor(np.arctan2(z, flat) / _ROW_RAD) + _ROWS / 2
        if self._rings:
            row = points_P6[:, RING]
        return column * _ROWS + np.clip(row, 0, _ROWS - 1).astype(np.int64), np.hypot(flat, z)

    def look(self, points_P6: np.ndarray, box_9: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What setting an object would do.

        Args:
            points_P6: of the object, in ego.
            box_9: its box.

        Returns:
            Which of its points are seen, bool `(P,)`, and which of the frame's points stay, bool: those in
            its box and behind it go.
        """
        stay = ~points_in_box(self.points_P6, box_9)
        seen = np.ones(len(points_P6), bool)
        if self.origin_3 is None or not len(points_P6):
            return seen, stay

        if self._rings and (points_P6[:, RING] < 0).any():
            raise ValueError(
                'PasteObjects: ring: found points without one in the database and with one in the frame, '
                'expected both of one LiDAR')
        beams, ranges = self._along(points_P6)
        own, places = np.unique(beams, return_inverse=True)
        self._place_of[own] = np.arange(len(own))
        found = self._place_of[self._beams_P]
        self._place_of[own] = -1
        near = np.flatnonzero(found >= 0)

        # the frame hides points of the object, then what is left of it hides the frame
        before = near[stay[near]]
        limit = _nearest(len(own), found[before], self._ranges_P[before])
        seen = ranges <= limit[places] + BEHIND_M
        limit = _nearest(len(own), places[seen], ranges[seen])
        stay[near] &= self._ranges_P[near] <= limit[found[near]] + BEHIND_M
        return seen, stay

    def add(self, points_P6: np.ndarray, stay: np.ndarray) -> None:
        """Set an object's points (those that are seen) and keep those of the frame that `look` left."""
        beams, ranges = self._along(points_P6)
        self._beams_P = np.concatenate([self._beams_P[stay], beams])
        self._ranges_P = np.concatenate([self._ranges_P[stay], ranges])
        self.owners_P = np.concatenate([self.owners_P[stay], np.full(len(points_P6), self._boxes)])
        self._boxes += 1
        self.points_P6 = np.concatenate([self.points_P6[stay], points_P6])


    def counts(self, chosen: np.ndarray | slice = np.s_[:]) -> np.ndarray:
        """How many of some of the points each box has: int64 `(boxes,)`."""
        return np.bincount(self.owners_P[chosen] + 1, minlength=self._boxes + 1)[1:]

    @property
    def of_key_frame(self) -> np.ndarray:
        """Which points are of the key frame's own sweep, as tables count points in boxes: bool `(P,)`."""
        return np.abs(self.points_P6[:, TIME_LAG]) < 1e-3


def _nearest(count: int, beams_P: np.ndarray, ranges_P: np.ndarray) -> np.ndarray:
    """Smallest distance on each of `count` beams; infinity where there is none."""
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, beams_P, ranges_P)
    return nearest
