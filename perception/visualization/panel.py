"""One picture per frame: cameras, then the view from above and the tasks' panels, prediction beside truth."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.contracts import CameraRig, Sample
from ..core.protocols import CAMERAS
from . import palette
from .bev import BevCanvas
from .camera import CameraCanvas, resize_rig
from .layers import Layers, in_order
from .legend import LegendEntry, draw_legend

_CAMERA_ROWS = (
    ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))


def draw_camera(
    rig: CameraRig, index: int, layers: Layers = (), points_ego: np.ndarray | None = None
) -> np.ndarray:
    """One camera's image with LiDAR points and every layer drawn in, uint8 RGB `(H, W, 3)`.

    Args:
        rig: the cameras of a sample.
        index: which of them. A camera that is not present comes back grey.
        layers: what is drawn, from the lowest order to the highest.
        points_ego: `(P, 3+)` metres.
    """
    canvas = CameraCanvas(rig, index)
    if not rig.present_N[index]:
        canvas.draw_absent()
        return canvas.image

    if points_ego is not None:
        canvas.draw_points(points_ego)
    for layer in in_order(layers):
        layer.draw_on_camera(canvas)
    return canvas.image


def draw_cameras(
    rig: CameraRig, layers: Layers = (), points_ego: np.ndarray | None = None, width_px: int = 480
) -> np.ndarray:
    """All cameras in the places a driver expects (front row, back row), each `width_px` wide."""
    import cv2

    resized = resize_rig(rig, width_px)
    height_px = resized.image_size_hw[0]

    def tile(name: str) -> np.ndarray:
        if name not in rig.names:
            return np.full((height_px, width_px, 3), 60, dtype=np.uint8)
        image = draw_camera(resized, rig.names.index(name), layers, points_ego)
        cv2.putText(image, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        return image

    rows = _CAMERA_ROWS if set(rig.names) & set(CAMERAS) else (rig.names,)
    return np.concatenate([np.concatenate([tile(name) for name in row], 1) for row in rows], 0)


def draw_bev(
    layers: Layers, points_ego: np.ndarray | None = None, size_px: int = 600, range_m: float = 50.0
) -> np.ndarray:
    """LiDAR, every layer and the car itself, seen from above, `(size_px, size_px, 3)`."""
    canvas = BevCanvas((-range_m, range_m), (-range_m, range_m), size_px / (2 * range_m))

    ordered = in_order(layers)
    for layer in ordered:
        if layer.order < 0:
            layer.draw_on_bev(canvas)
    if points_ego is not None:
        canvas.draw_points(points_ego, (120, 120, 120))
    for layer in ordered:
        if layer.order >= 0:
            layer.draw_on_bev(canvas)

    canvas.draw_ego()
    canvas.draw_scale()
    return canvas.image


def draw_frame(
    sample: Sample,
    prediction: Layers | None,
    truth: Layers | None,
    title: str = '',
    camera_width_px: int | None = None,
) -> np.ndarray:
    """The whole picture of a frame, uint8 RGB `(H, W, 3)`.

    Args:
        sample: the sensors; of the LiDAR the newest sweep is drawn.
        prediction: drawn into the cameras and in panels of its own; None where there is none.
        truth: in panels of its own, and into the cameras where there is no prediction.
        title: a line of text above everything.
        camera_width_px: of one camera; None fits three cameras to the panels below them.
    """
    points = None
    if sample.lidar is not None:
        points = sample.lidar.points_P6[sample.lidar.points_P6[:, 5] == 0]

    panels = []
    for name, layers in (('prediction', prediction), ('ground truth', truth)):
        if layers is not None:
            panels += _panels(name, layers, points)
    if not panels:
        panels = [titled(draw_bev((), points), 'LiDAR')]

    blocks = [_side_by_side(panels)]
    if sample.camera is not None:
        width_px = camera_width_px or max(320, blocks[0].shape[1] // 3)
        blocks.insert(0, draw_cameras(sample.camera, prediction or truth or (), width_px=width_px))

    picture = _stacked(blocks)
    return titled(picture, title) if title else picture


def _panels(name: str, layers: Layers, points_ego: np.ndarray | None) -> list[np.ndarray]:
    """The view from above, then the panels of those layers that have their own; each with its legend."""
    from_above = [layer for layer in layers if layer.on_bev]
    title = ', '.join(layer.title for layer in from_above) or 'LiDAR'
    legend = [(layer.title, layer.legend()) for layer in from_above]
    panels = [_panel(f'{name}: {title}', draw_bev(layers, points_ego), legend)]

    for layer in layers:
        image = layer.draw_panel()
        if image is not None:
            panels.append(_panel(f'{name}: {layer.title}', image, [('', layer.legend())]))
    return panels


def _panel(
    title: str, image: np.ndarray, legend: Sequence[tuple[str, Sequence[LegendEntry]]]
) -> np.ndarray:
    """An image with its title above and its legend below."""
    sections = [(name, entries) for name, entries in legend if entries]
    return np.concatenate([titled(image, title), draw_legend(sections, image.shape[1])], 0)


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """The picture with a line of text above it."""
    import cv2

    bar = np.full((24, image.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(bar, title, (8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, palette.INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, image], 0)


def _side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    height_px = max(image.shape[0] for image in images)
    padded = [
        np.pad(image, ((0, height_px - image.shape[0]), (0, 0), (0, 0)), constant_values=255)
        for image in images
    ]
    return np.concatenate(padded, 1)


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    width_px = max(image.shape[1] for image in images)
    padded = [
        np.pad(image, ((0, 0), (0, width_px - image.shape[1]), (0, 0)), constant_values=255)
        for image in images
    ]
    return np.concatenate(padded, 0)
