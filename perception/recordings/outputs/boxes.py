"""Detected boxes as messages: a list for programs, a scene for the eye."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.contracts import CENTRE, SIZE, VELOCITY, YAW, Boxes3D, Tracks
from ...core.protocols import ATTRIBUTES
from ...visualization import palette
from .definitions import Message
from .parts import OutputOptions, header, key_values, pose, rgba, time_of, vector

SLOWEST_ARROW_MPS = 0.5


def detection_array(
    boxes: Boxes3D, stamp_ns: int, options: OutputOptions, tracks: Tracks | None = None
) -> Message:
    """All boxes as `vision_msgs/Detection3DArray`, best first.

    A detection's `id` is its track's number, empty without one. Velocities have no place in this message: see
    `box_entities`.

    Args:
        boxes: in ego.
        stamp_ns: of the frame.
        options: name the frame.
        tracks: of the same boxes.
    """
    ids, above = track_ids(boxes, tracks), header(stamp_ns, options.frame_id)
    detections = [
        {
            'header': above, 'id': ids[i],
            'bbox': {'center': pose(box[CENTRE], box[YAW]), 'size': vector(box[SIZE])},
            'results': [{
                'hypothesis': {
                    'class_id': boxes.classes.names[boxes.labels_M[i]], 'score': float(boxes.scores_M[i])},
                'pose': {'pose': pose(box[CENTRE], box[YAW])}}]}
        for i, box in enumerate(boxes.boxes_M9)]
    return Message('vision_msgs/msg/Detection3DArray', {'header': above, 'detections': detections})


def box_entities(
    boxes: Boxes3D, stamp_ns: int, options: OutputOptions, tracks: Tracks | None = None
) -> list[dict[str, Any]]:
    """Boxes of at least the threshold's score as `foxglove_msgs/SceneEntity`.

    Each has a cube, an arrow as long as the way of one second, a text (class, track, score) and what is known
    of it as metadata.
    """
    ids, entities = track_ids(boxes, tracks), []
    colours = palette.detection_colours(boxes.classes)
    for i in np.flatnonzero(boxes.scores_M >= options.score_threshold).tolist():
        box, name = boxes.boxes_M9[i].astype(float), boxes.classes.names[boxes.labels_M[i]]
        tint = colours[name]
        top = box[CENTRE] + [0, 0, box[SIZE][2] / 2 + 0.6]
        text = ' '.join(filter(None, [name, ids[i], f'{boxes.scores_M[i]:.2f}']))

        entities.append({
            'timestamp': time_of(stamp_ns), 'frame_id': options.frame_id, 'id': f'box {ids[i] or f"row {i}"}',
            'metadata': _known(boxes, i, ids[i]),
            'cubes': [{
                'pose': pose(box[CENTRE], box[YAW]), 'size': vector(box[SIZE]), 'color': rgba(tint, 0.5)}],
            'arrows': velocity_arrow(box, tint),
            'texts': [{
                'pose': pose(top), 'billboard': True, 'font_size': 0.8, 'color': rgba(tint),
                'text': text}]})
    return entities


def velocity_arrow(box_9: np.ndarray, tint: tuple[int, int, int]) -> list[dict[str, Any]]:
    """One `foxglove_msgs/ArrowPrimitive` from the box's centre; none where it stands or nothing is known."""
    vx, vy = box_9[VELOCITY]
    speed = math.hypot(vx, vy)
    if not speed >= SLOWEST_ARROW_MPS:
        return []
    head = min(0.6, speed / 2)
    return [{
        'pose': pose(box_9[CENTRE], math.atan2(vy, vx)), 'color': rgba(tint),
        'shaft_length': speed - head, 'shaft_diameter': 0.15, 'head_length': head, 'head_diameter': 0.4}]


def track_ids(boxes: Boxes3D, tracks: Tracks | None) -> list[str]:
    """Per box the number of its track as text, '' without one."""
    ids = [''] * len(boxes.scores_M)
    if tracks is not None:
        for row, number in zip(tracks.rows_M.tolist(), tracks.ids_M.tolist(), strict=True):
            ids[row] = str(number)
    return ids


def _known(boxes: Boxes3D, i: int, track: str) -> list[dict[str, str]]:
    """What is known of a box, as metadata."""
    vx, vy = boxes.boxes_M9[i][VELOCITY]
    attribute = int(boxes.attributes_M[i])
    known = {'class': boxes.classes.names[boxes.labels_M[i]], 'score': boxes.scores_M[i]}
    if track:
        known['track'] = track
    if attribute >= 0:
        known['attribute'] = ATTRIBUTES[attribute]
    return key_values({**known, **({'vx_mps': vx, 'vy_mps': vy} if np.isfinite(vx + vy) else {})})
