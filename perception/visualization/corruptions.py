"""Failing sensors for a person: the clean frame beside what the sensors give when they fail."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.contracts import BoxLabels, CameraRig, RadarPoints, Sample
from ..core.protocols import RADARS
from . import palette
from .bev import BevCanvas
from .camera import draw_camera
from .panel import enlarged

_RANGE_M = {'lidar': 30.0, 'radar': 40.0, 'alignment': 40.0}
_MOSAIC = (
    ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
_RADAR_COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (230, 130, 0))
_CAPTION_PX = 20


@dataclass(frozen=True)
class GalleryRow:
    """One corruption: its name, what its severities count, where it is from, and the (severity, sample) pairs
    to draw.

    `from_above` draws an alignment from above instead of as points on a picture.
    """

    name: str
    unit: str
    source: str
    kind: str
    corrupted: Sequence[tuple[float, Sample]]
    from_above: bool = False


def draw_row(
    row: GalleryRow, clean: Sample, boxes: BoxLabels | None, camera: str, width_px: int
) -> np.ndarray:
    """Clean, then every severity, with captions, uint8 `(H, W, 3)`."""
    view = _view_of(row, clean, boxes, camera, width_px)
    cells = [_captioned(view(clean), 'clean')]
    cells += [_captioned(view(sample), f'severity {severity:g}') for severity, sample in row.corrupted]
    body = np.concatenate(cells, 1)
    words = f'{row.name}   ({row.unit}; {row.source})'
    return np.concatenate(
        [_words(words, max(body.shape[1], 11 * len(words)), 0.5), _wide(body, 11 * len(words))], 0
    )


def sheet(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows under one another, filled up to one width."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_wide(row, width) for row in rows], 0)


def _view_of(row: GalleryRow, clean: Sample, boxes: BoxLabels | None, camera: str,
             width_px: int) -> Callable[[Sample], np.ndarray]:
    """How this kind of corruption is seen best: one picture, all pictures, from above, or points on a
    picture."""
    if row.kind == 'lidar' or row.from_above:
        return lambda sample: _lidar_from_above(sample, boxes, width_px)
    if row.kind == 'radar':
        return lambda sample: _radar_from_above(sample.radar, boxes, width_px)
    index = clean.camera.names.index(camera)
    if row.kind == 'alignment':
        return lambda sample: _points_on_picture(sample, boxes, index, width_px)
    untouched = [np.array_equal(a, b) for _, s in row.corrupted for a, b in
                 zip(s.camera.images_NHW3, clean.camera.images_NHW3, strict=True)]
    if any(untouched) or not all(s.camera.present_N.all() for _, s in row.corrupted):
        return lambda sample: _mosaic(sample.camera, width_px)
    return lambda sample: draw_camera(enlarged(sample.camera, width_px), index)


def _mosaic(rig: CameraRig, width_px: int) -> np.ndarray:
    """All pictures, front row above, without names; a camera that gives nothing is grey."""
    small = enlarged(rig, width_px // 3)
    pictures = {name: image if there else np.full_like(image, 110)
                for name, image, there in zip(rig.names, small.images_NHW3, rig.present_N, strict=True)}
    rows = _MOSAIC if set(rig.names) == set(sum(_MOSAIC, ())) else (rig.names,)
    framed = {
        name: np.pad(image, ((0, 1), (0, 1), (0, 0)), constant_values=255) for name, image in pictures.items()
    }
    return np.concatenate([np.concatenate([framed[name] for name in row], 1) for row in rows], 0)


def _canvas(kind: str, boxes: BoxLabels | None, width_px: int) -> BevCanvas:
    """The view from above with the true boxes; what the sensor gives is drawn on top of them."""
    range_m = _RANGE_M[kind]
    canvas = BevCanvas((-range_m, range_m), (-range_m, range_m), width_px / (2 * range_m))
    if boxes is not None:
        canvas.draw_boxes(boxes.boxes_M9, boxes.labels_M, velocity_s=0.0)
    canvas.draw_ego()
    canvas.draw_scale()
    return canvas


def _lidar_from_above(sample: Sample, boxes: BoxLabels | None, width_px: int) -> np.ndarray:
    """Points coloured by height, dim ones paler."""
    canvas = _canvas('lidar', boxes, width_px)
    if sample.lidar is None:
        return _said(canvas.image, 'no LiDAR')
    points = sample.lidar.points_P6[np.argsort(sample.lidar.points_P6[:, 2], kind='stable')]
    strength = np.clip(0.25 + points[:, 3:4] / 40, 0, 1)
    colours = palette.heat(points[:, 2], -0.5, 3.5) * strength + 235 * (1 - strength)
    canvas.draw_points(points, colours.astype(np.uint8))
    return canvas.image


def _radar_from_above(radar: RadarPoints, boxes: BoxLabels | None, width_px: int) -> np.ndarray:
    """Targets as dots in the colour of their radar, with the way they move in a second."""
    import cv2
    canvas = _canvas('radar', boxes, width_px)
    for target in radar.points_P8:
        start, end = canvas.pixels(np.stack([target[:2], target[:2] + target[3:5]])).round().astype(int)
        colour = _RADAR_COLOURS[int(target[7])]
        cv2.line(canvas.image, tuple(start.tolist()), tuple(end.tolist()), colour, 1, cv2.LINE_AA)
        cv2.circle(canvas.image, tuple(start.tolist()), 1, colour, -1, cv2.LINE_AA)
    dead = [
        name.removeprefix('RADAR_')
        .replace('FRONT', 'F')
        .replace('BACK', 'B')
        .replace('_LEFT', 'L')
        .replace('_RIGHT', 'R')
        for name, there in zip(RADARS, radar.present_R, strict=True)
        if not there
    ]
    return _said(canvas.image, 'dead: ' + ', '.join(dead)) if dead else canvas.image


def _points_on_picture(sample: Sample, boxes: BoxLabels | None, index: int, width_px: int) -> np.ndarray:
    """The picture with the cloud and the true boxes, where the car believes them to be."""
    near = None if boxes is None else boxes.select(np.hypot(*boxes.boxes_M9[:, :2].T) < _RANGE_M['alignment'])
    labels = (None, None) if near is None else (near.boxes_M9, near.labels_M)
    return draw_camera(
        enlarged(sample.camera, width_px), index, *labels, points_ego=sample.lidar and sample.lidar.points_P6
    )


def _said(image: np.ndarray, words: str) -> np.ndarray:
    import cv2
    cv2.putText(image, words, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, palette.INK, 1, cv2.LINE_AA)
    return image


def _captioned(image: np.ndarray, words: str) -> np.ndarray:
    framed = np.pad(image, ((0, 2), (2, 2), (0, 0)), constant_values=255)
    return np.concatenate([_words(words, framed.shape[1], 0.42), framed], 0)


def _words(words: str, width_px: int, size: float) -> np.ndarray:
    import cv2
    bar = np.full((_CAPTION_PX, width_px, 3), 255, np.uint8)
    cv2.putText(bar, words, (6, _CAPTION_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, size, palette.INK, 1, cv2.LINE_AA)
    return bar


def _wide(image: np.ndarray, width_px: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (0, max(0, width_px - image.shape[1])), (0, 0)), constant_values=255)
