"""Boxes with ids -> tracks as the official evaluation sees them: one score a track, holes filled.

Between two boxes of a track, the frames without one get a box on the line between them. The official code
gives the *earlier* box the weight that belongs to the later one: a track that was lost for three frames comes
back in the wrong order. That is part of the metric and done here too.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..detection.boxes import BoxTable
from ..detection.tables import Drives


@dataclass(frozen=True)
class TrackTable:
    """M boxes of tracks in the order of frames: scene by scene, by time.

    Attributes:
        frame_M: int64 index of the frame in that order.
        xy_M2: float64, global, metres.
        label_M: into the classes of the truth.
        track_M: int64 number of the track, unique over scenes.
        score_M: float64, the mean over the track.
    """

    frame_M: np.ndarray
    xy_M2: np.ndarray
    label_M: np.ndarray
    track_M: np.ndarray
    score_M: np.ndarray

    def of_class(self, label: int) -> TrackTable:
        """The boxes of one class, their tracks numbered from 0."""
        rows = np.flatnonzero(self.label_M == label)
        _, track_M = np.unique(self.track_M[rows], return_inverse=True)
        return TrackTable(
            self.frame_M[rows], np.ascontiguousarray(self.xy_M2[rows]), self.label_M[rows],
            track_M.astype(np.int64), self.score_M[rows])


def make_tracks(boxes: BoxTable, ids: Sequence[str], drives: Drives, average: bool = True) -> TrackTable:
    """Sort boxes into frames, average their scores over tracks and fill the holes.

    An id means one track within a scene, and another one in another scene. A track may change its class; what
    is filled has the class of the later box.

    Args:
        boxes: `sample_M` counts `drives.tokens`.
        ids: of each box.
        drives: scenes and times of the samples.
        average: the score of every box becomes the mean of its track, as it does for predictions.
    """
    order_S = drives.order()
    frame_of_S = np.empty(len(order_S), dtype=np.int64)
    frame_of_S[order_S] = np.arange(len(order_S))

    rows = np.argsort(frame_of_S[boxes.sample_M], kind='stable')
    frame_M = frame_of_S[boxes.sample_M[rows]]
    track_M = _numbers(boxes.sample_M[rows], [ids[row] for row in rows.tolist()], drives.scenes)
    score_M = boxes.score_M[rows]
    table = TrackTable(frame_M, boxes.centre_M3[rows, :2], boxes.label_M[rows], track_M, score_M)

    if average:
        table = TrackTable(table.frame_M, table.xy_M2, table.label_M, track_M, _means(score_M, track_M))
    return _filled(table, drives.time_us_S[order_S])


def _numbers(sample_M: np.ndarray, ids: Sequence[str], scenes: Sequence[str]) -> np.ndarray:
    """Number of each (scene, id), counted in the order in which they first occur."""
    number_of: dict[tuple[str, str], int] = {}
    keys = zip((scenes[sample] for sample in sample_M.tolist()), ids, strict=True)
    return np.array([number_of.setdefault(key, len(number_of)) for key in keys], dtype=np.int64)


def _means(score_M: np.ndarray, track_M: np.ndarray) -> np.ndarray:
    """The mean score of each box's track, rounded as NumPy rounds the mean of a list."""
    order = np.argsort(track_M, kind='stable')
    borders = np.flatnonzero(np.diff(track_M[order])) + 1
    means = [np.mean(part) for part in np.split(score_M[order], borders)] if len(order) else []
    return np.array(means, dtype=np.float64)[track_M]


def _filled(table: TrackTable, time_us_F: np.ndarray) -> TrackTable:
    """The table with boxes in the holes of its tracks, behind the other boxes of their frames."""
    rows = np.lexsort([table.frame_M, table.track_M])
    left, right = rows[:-1], rows[1:]
    steps = np.where(
        table.track_M[left] == table.track_M[right], table.frame_M[right] - table.frame_M[left], 1)

    # one entry for every missing frame of every hole
    holes = np.maximum(steps - 1, 0)
    left, right = np.repeat(left, holes), np.repeat(right, holes)
    within = np.arange(holes.sum()) - np.repeat(np.cumsum(holes) - holes, holes)
    frame_H = table.frame_M[left] + 1 + within

    # the weight of the later box falls as its time comes nearer: see the head of this file
    later_us = time_us_F[table.frame_M[right]]
    weight_H = (later_us - time_us_F[frame_H]) / (later_us - time_us_F[table.frame_M[left]])
    weight_H1 = weight_H[:, None]
    xy_H2 = (1.0 - weight_H1) * table.xy_M2[left] + weight_H1 * table.xy_M2[right]
    score_H = (1.0 - weight_H) * table.score_M[left] + weight_H * table.score_M[right]

    # within a frame the filled boxes follow in the order in which their tracks began
    frame = np.concatenate([table.frame_M, frame_H])
    track = np.concatenate([table.track_M, table.track_M[right]])
    place = np.concatenate([np.full(len(table.frame_M), -1), table.track_M[right]])
    order = np.lexsort([place, frame])
    return TrackTable(
        frame[order], np.concatenate([table.xy_M2, xy_H2])[order],
        np.concatenate([table.label_M, table.label_M[right]])[order], track[order],
        np.concatenate([table.score_M, score_H])[order])
