"""One class's tracks against the truth, frame by frame: who was matched to whom, and what that counts.

CLEAR MOT (Bernardin and Stiefelhagen 2008), as the devkit's motmetrics does it. In each frame an object keeps
the track that it had last, where that track is there and near enough; all others are assigned at the smallest
total distance, as many as possible. An object whose track differs from its last one is a switch.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .assignment import assign, assign_reference


class FollowedClass(NamedTuple):
    """What happened to the G objects and P tracked boxes of a class.

    Attributes:
        frames: those with an object or a tracked box.
        matches: boxes on an object that keeps its track or has its first.
        switches: boxes on an object that had another track last.
        false_positives: boxes on no object.
        misses: objects without a box, counted in each frame.
        distance_m: sum over matches and switches.
        is_match_P: which boxes are matches.
        seen_G: frames that each object is in.
        tracked_G: those of them in which it has a box.
        start_G: frames before its first box, -1 without one.
        breaks_G: how often it was lost and found again.
        longest_gap_G: most frames in a row without a box.
    """

    frames: int
    matches: int
    switches: int
    false_positives: int
    misses: int
    distance_m: float
    is_match_P: np.ndarray
    seen_G: np.ndarray
    tracked_G: np.ndarray
    start_G: np.ndarray
    breaks_G: np.ndarray
    longest_gap_G: np.ndarray


@njit(cache=True)
def match_frame(near_NM: np.ndarray, kept_N: np.ndarray) -> np.ndarray:
    """Give the objects of a frame that kept no track a free one.

    Args:
        near_NM: distance of each pair, NaN where it is too large.
        kept_N: the tracked box that each object keeps, -1 none.

    Returns:
        int64 `(N,)`: the box of each object, -1 none.
    """
    objects, boxes = near_NM.shape
    matched_N = kept_N.copy()
    free = near_NM.copy()
    for i in range(objects):
        if kept_N[i] >= 0:
            free[i, :] = np.nan
            free[:, kept_N[i]] = np.nan

    # nothing to decide where every object and every box has one candidate at most
    candidates_M = np.zeros(boxes, dtype=np.int64)
    most, farthest = 0, 0.0
    any_far = False
    for i in range(objects):
        count = 0
        for j in range(boxes):
            if np.isnan(free[i, j]):
                any_far = True
                continue
            count += 1
            candidates_M[j] += 1
            most = max(most, candidates_M[j])
            farthest = max(farthest, free[i, j])
            matched_N[i] = j
        most = max(most, count)
    if most <= 1:
        return matched_N

    # a pair too far apart costs more than all the others together
    costs = free.copy()
    if any_far:
        large = 2.0 * min(objects, boxes) * (farthest + 1.0) + 1.0
        for i in range(objects):
            for j in range(boxes):
                if np.isnan(costs[i, j]):
                    costs[i, j] = large

    assigned_N = assign(costs)
    for i in range(objects):
        if kept_N[i] < 0:
            j = assigned_N[i]
            matched_N[i] = j if j >= 0 and not np.isnan(free[i, j]) else -1
    return matched_N


@njit(cache=True)
def follow_class(
    object_start: np.ndarray,
    object_G: np.ndarray,
    box_start: np.ndarray,
    track_P: np.ndarray,
    block_start: np.ndarray,
    distances: np.ndarray,
    objects: int,
) -> FollowedClass:
    """Follow one class through all frames of all scenes.

    Args:
        object_start: `(F + 1,)` first annotated box of each frame.
        object_G: number of the object that each annotated box is of, below `objects`, unique over scenes.
        box_start: `(F + 1,)` first tracked box of each frame.
        track_P: number of each box's track, unique over scenes.
        block_start: `(F,)` where the distances of each frame begin.
        distances: of all pairs of each frame, row by row of the annotated boxes, in metres; NaN where too
            large.
        objects: how many there are.
    """
    last_track = np.full(objects, -1, dtype=np.int64)
    is_match = np.zeros(len(track_P), dtype=np.bool_)
    seen = np.zeros(objects, dtype=np.int64)
    tracked = np.zeros(objects, dtype=np.int64)
    start = np.full(objects, -1, dtype=np.int64)
    breaks = np.zeros(objects, dtype=np.int64)
    gap = np.zeros(objects, dtype=np.int64)
    longest_gap = np.zeros(objects, dtype=np.int64)
    frames, matches, switches, false_positives, misses = 0, 0, 0, 0, 0
    total_m = 0.0

    for f in range(len(object_start) - 1):
        ids = object_G[object_start[f]:object_start[f + 1]]
        tracks = track_P[box_start[f]:box_start[f + 1]]
        n, m = len(ids), len(tracks)
        if n == 0 and m == 0:
            continue
        frames += 1
        near = distances[block_start[f]:block_start[f] + n * m].reshape((n, m))

        # an object keeps its track; of two that had the same one, the earlier
        kept = np.full(n, -1, dtype=np.int64)
        taken = np.zeros(m, dtype=np.bool_)
        for i in range(n):
            if last_track[ids[i]] < 0:
                continue
            for j in range(m):
                if tracks[j] == last_track[ids[i]]:
                    if not taken[j] and not np.isnan(near[i, j]):
                        kept[i] = j
                        taken[j] = True
                    break
        matched = match_frame(near, kept) if n > 0 and m > 0 else kept

        # count what became of the objects
        found = 0
        for i in range(n):
            o, j = ids[i], matched[i]
            if j < 0:
                misses += 1
                gap[o] += 1
                longest_gap[o] = max(longest_gap[o], gap[o])
            else:
                found += 1
                total_m += near[i, j]
                if last_track[o] >= 0 and last_track[o] != tracks[j]:
                    switches += 1
                else:
                    matches += 1
                    is_match[box_start[f] + j] = True
                last_track[o] = tracks[j]

                if start[o] < 0:
                    start[o] = seen[o]
                elif gap[o] > 0:
                    breaks[o] += 1
                gap[o] = 0
                tracked[o] += 1
            seen[o] += 1
        false_positives += m - found

    return FollowedClass(
        frames, matches, switches, false_positives, misses, total_m, is_match, seen, tracked, start, breaks,
        longest_gap)


def follow_class_reference(
    object_start: np.ndarray,
    object_G: np.ndarray,
    box_start: np.ndarray,
    track_P: np.ndarray,
    block_start: np.ndarray,
    distances: np.ndarray,
    objects: int,
) -> FollowedClass:
    """Reference implementation of `follow_class`: events of each object first, counts from them."""
    last: dict[int, int] = {}
    history: list[list[bool]] = [[] for _ in range(objects)]
    is_match = np.zeros(len(track_P), dtype=bool)
    frames, switches, boxes, total_m = 0, 0, 0, 0.0

    for f in range(len(object_start) - 1):
        ids = object_G[object_start[f]:object_start[f + 1]].tolist()
        tracks = track_P[box_start[f]:box_start[f + 1]].tolist()
        frames += bool(ids or tracks)
        boxes += len(tracks)
        block = distances[block_start[f]:block_start[f] + len(ids) * len(tracks)]
        near = block.reshape(len(ids), len(tracks))

        pairs: dict[int, int] = {}
        for i, o in enumerate(ids):
            j = tracks.index(last[o]) if last.get(o) in tracks else None
            if j is not None and j not in pairs.values() and not np.isnan(near[i, j]):
                pairs[i] = j

        free = near.copy()
        free[list(pairs)] = np.nan
        free[:, list(pairs.values())] = np.nan
        if np.isfinite(free).any():
            far = 2.0 * min(free.shape) * (np.nanmax(free) + 1) + 1
            columns = assign_reference(np.where(np.isnan(free), far, free)).tolist()
            pairs |= {i: j for i, j in enumerate(columns) if j >= 0 and np.isfinite(free[i, j])}

        for i, o in enumerate(ids):
            history[o].append(i in pairs)
            if i in pairs:
                is_switch = last.get(o, tracks[pairs[i]]) != tracks[pairs[i]]
                switches += is_switch
                is_match[box_start[f] + pairs[i]] = not is_switch
                last[o] = tracks[pairs[i]]
                total_m += float(near[i, pairs[i]])

    words = [''.join('x' if hit else '.' for hit in hits) for hits in history]
    matches = int(is_match.sum())
    return FollowedClass(
        frames, matches, switches, boxes - matches - switches, sum(w.count('.') for w in words), total_m,
        is_match, np.array([len(w) for w in words]), np.array([w.count('x') for w in words]),
        np.array([w.find('x') for w in words]), np.array([w.strip('.').count('x.') for w in words]),
        np.array([max(map(len, w.split('x'))) for w in words]))
