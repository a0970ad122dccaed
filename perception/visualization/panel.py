"""One picture per frame: cameras, then the view from above and the tasks' panels, prediction beside truth."""
from __future__ import annotations

import numpy as np

from ..core.contracts import CameraRig, Sample
from ..core.protocols import CAMERAS
from ..registry import TASK_LAYERS
from . import palette
from .bev import BevCanvas
from .camera import CameraCanvas, resize_rig
from .layers import Layers

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
    for layer in _in_order(layers):
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

    ordered = _in_order(layers)
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
    sample: Sample, prediction: Layers | None, truth: Layers | None, title: str = ''
) -> np.ndarray:
    """The whole picture of a frame, uint8 RGB `(H, W, 3)`.

    Args:
        sample: the sensors; of the LiDAR the newest sweep is drawn.
        prediction: drawn into the cameras and in panels of its own; None where there is none.
        truth: in panels of its own, and into the cameras where there is no prediction.
        title: a line of text above everything.
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

    blocks = [np.concatenate(panels, 1)]
    if sample.camera is not None:
        width_px = max(320, blocks[0].shape[1] // 3)
        blocks.insert(0, draw_cameras(sample.camera, prediction or truth or (), width_px=width_px))
    blocks.append(draw_legend(max(block.shape[1] for block in blocks)))

    width_px = max(block.shape[1] for block in blocks)
    picture = np.concatenate([_padded(block, width_px) for block in blocks], 0)
    return titled(picture, title) if title else picture


def _panels(name: str, layers: Layers, points_ego: np.ndarray | None) -> list[np.ndarray]:
    """The view from above, then the panels of those layers that have their own."""
    shown = ', '.join(layer.title for layer in layers if layer.on_bev)
    panels = [titled(draw_bev(layers, points_ego), f'{name}: {shown}')]
    for layer in layers:
        panel = layer.draw_panel()
        if panel is not None:
            panels.append(titled(panel, f'{name}: {layer.title}'))
    return panels


def draw_legend(width_px: int) -> np.ndarray:
    """What the colours mean, as strips of names."""
    import cv2

    entries = [entry for layer in TASK_LAYERS.module_dict.values() for entry in layer.legend()]
    strip = np.full((44, width_px, 3), 255, dtype=np.uint8)
    column, row = 8, 14
    for name, colour in entries:
        needed = 24 + 8 * len(name)
        if column + needed > width_px:
            column, row = 8, row + 20
        cv2.rectangle(strip, (column, row - 9), (column + 12, row + 2), colour, -1)
        cv2.putText(
            strip, name, (column + 16, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, palette.INK, 1, cv2.LINE_AA
        )
        column += needed
    return strip


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """The picture with a line of text above it."""
    import cv2

    bar = np.full((24, image.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(bar, title, (8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, palette.INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, image], 0)


def _in_order(layers: Layers) -> Layers:
    return tuple(sorted(layers, key=lambda layer: layer.order))


def _padded(image: np.ndarray, width_px: int) -> np.ndarray:
    side = width_px - image.shape[1]
    return np.pad(image, ((0, 0), (0, side), (0, 0)), constant_values=255)
