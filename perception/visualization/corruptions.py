"""A gallery of failing sensors: the clean frame beside what the sensors measure when they fail."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.contracts import BoxLabels, CameraRig, RadarPoints, Sample
from ..core.protocols import RADARS
from . import palette
from .bev import BevCanvas
from .camera import resize_rig
from .detection import DetectionLayer
from .panel import draw_camera

_RANGE_M = {'lidar': 30.0, 'radar': 40.0, 'alignment': 40.0}
_MOSAIC = (
    ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
_RADAR_COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (230, 130, 0))
_CAPTION_PX = 20
_LETTER_PX = 11


@dataclass(frozen=True)
class GalleryRow:
    """One corruption and the samples to draw of it.

    Attributes:
        name: of the corruption.
        unit: what its severities count.
        source: where it is published.
        kind: camera, lidar, radar or alignment.
        corrupted: (severity, sample) pairs.
        from_above: draws an alignment from above instead of as points on an image.
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
    """Clean, then every severity, with captions, uint8 RGB `(H, W, 3)`."""
    view = _view_of(row, clean, boxes, camera, width_px)
    cells = [_captioned(view(clean), 'clean')]
    cells += [_captioned(view(sample), f'severity {severity:g}') for severity, sample in row.corrupted]
    body = np.concatenate(cells, 1)

    heading = f'{row.name}   ({row.unit}; {row.source})'
    heading_px = _LETTER_PX * len(heading)
    bar = _text_bar(heading, max(body.shape[1], heading_px), 0.5)
    return np.concatenate([bar, _widened(body, heading_px)], 0)


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows under one another, filled up to one width."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_widened(row, width) for row in rows], 0)


def _view_of(
    row: GalleryRow, clean: Sample, boxes: BoxLabels | None, camera: str, width_px: int
) -> Callable[[Sample], np.ndarray]:
    """How this kind of corruption is seen best: one image, all images, from above, or points on an image."""
    if row.kind == 'lidar' or row.from_above:
        return lambda sample: _lidar_from_above(sample, boxes, width_px)
    if row.kind == 'radar':
        return lambda sample: _radar_from_above(sample.radar, boxes, width_px)

    index = clean.camera.names.index(camera)
    if row.kind == 'alignment':
        return lambda sample: _points_on_image(sample, boxes, index, width_px)

    # a corruption that spares or removes single cameras shows only beside the others
    unchanged = [
        np.array_equal(image, clean_image)
        for _, sample in row.corrupted
        for image, clean_image in zip(sample.camera.images_NHW3, clean.camera.images_NHW3, strict=True)
    ]
    removed = any(not sample.camera.present_N.all() for _, sample in row.corrupted)
    if any(unchanged) or removed:
        return lambda sample: _mosaic(sample.camera, width_px)
    return lambda sample: draw_camera(resize_rig(sample.camera, width_px), index)


def _mosaic(rig: CameraRig, width_px: int) -> np.ndarray:
    """All images, front row above, without names; an absent camera is grey."""
    small = resize_rig(rig, width_px // 3)
    framed = {}
    for name, image, present in zip(rig.names, small.images_NHW3, rig.present_N, strict=True):
        shown = image if present else np.full_like(image, 110)
        framed[name] = np.pad(shown, ((0, 1), (0, 1), (0, 0)), constant_values=255)

    rows = _MOSAIC if set(rig.names) == {name for row in _MOSAIC for name in row} else (rig.names,)
    return np.concatenate([np.concatenate([framed[name] for name in row], 1) for row in rows], 0)


def _canvas(kind: str, boxes: BoxLabels | None, width_px: int) -> BevCanvas:
    """The view from above with the true boxes; what the sensor measures is drawn on top of them."""
    range_m = _RANGE_M[kind]
    canvas = BevCanvas((-range_m, range_m), (-range_m, range_m), width_px / (2 * range_m))
    if boxes is not None:
        DetectionLayer(boxes.boxes_M9, boxes.labels_M, 0.0, boxes.classes).draw_on_bev(canvas)
    canvas.draw_ego()
    canvas.draw_scale()
    return canvas


def _lidar_from_above(sample: Sample, boxes: BoxLabels | None, width_px: int) -> np.ndarray:
    """Points coloured by height, dim ones paler."""
    canvas = _canvas('lidar', boxes, width_px)
    if sample.lidar is None:
        return _labelled(canvas.image, 'no LiDAR')

    # high points last, so that they lie on top
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
        ends = canvas.pixels(np.stack([target[:2], target[:2] + target[3:5]])).round().astype(int)
        start, end = ends.tolist()
        colour = _RADAR_COLOURS[int(target[7])]
        cv2.line(canvas.image, tuple(start), tuple(end), colour, 1, cv2.LINE_AA)
        cv2.circle(canvas.image, tuple(start), 1, colour, -1, cv2.LINE_AA)

    dead = [_short_name(name) for name, present in zip(RADARS, radar.present_R, strict=True) if not present]
    return _labelled(canvas.image, 'dead: ' + ', '.join(dead)) if dead else canvas.image


def _short_name(radar: str) -> str:
    """'RADAR_FRONT_LEFT' -> 'FL'."""
    return ''.join(word[0] for word in radar.split('_')[1:])


def _points_on_image(sample: Sample, boxes: BoxLabels | None, index: int, width_px: int) -> np.ndarray:
    """The image with the cloud and the true boxes, where the car's calibration puts them."""
    layers = ()
    if boxes is not None:
        near = boxes.select(np.hypot(*boxes.boxes_M9[:, :2].T) < _RANGE_M['alignment'])
        layers = (DetectionLayer(near.boxes_M9, near.labels_M, classes=near.classes),)
    points = None if sample.lidar is None else sample.lidar.points_P6
    return draw_camera(resize_rig(sample.camera, width_px), index, layers, points)


def _labelled(image: np.ndarray, text: str) -> np.ndarray:
    import cv2

    cv2.putText(image, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, palette.INK, 1, cv2.LINE_AA)
    return image


def _captioned(image: np.ndarray, caption: str) -> np.ndarray:
    framed = np.pad(image, ((0, 2), (2, 2), (0, 0)), constant_values=255)
    return np.concatenate([_text_bar(caption, framed.shape[1], 0.42), framed], 0)


def _text_bar(text: str, width_px: int, size: float) -> np.ndarray:
    import cv2

    bar = np.full((_CAPTION_PX, width_px, 3), 255, np.uint8)
    cv2.putText(bar, text, (6, _CAPTION_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, size, palette.INK, 1, cv2.LINE_AA)
    return bar


def _widened(image: np.ndarray, width_px: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (0, max(0, width_px - image.shape[1])), (0, 0)), constant_values=255)
