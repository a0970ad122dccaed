"""One sheet per frame: six cameras above, below them the view from above and the occupancy, answer beside
truth."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.contracts import Annotations, CameraRig, Sample, TaskOutput
from ..core.grid import BEVGrid
from ..core.protocols import CAMERAS, DETECTION_CLASSES, LANE_CLASSES, LANE_RANGES_M, MAP_CLASSES, MAP_GRID
from ..core.raster import clip_polyline, draw_lines, fill_polygons
from . import palette
from .bev import BevCanvas
from .camera import draw_camera
from .occupancy import draw_occupancy

_ROWS = (('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))


@dataclass(frozen=True)
class Layers:
    """What can be drawn of one frame, from an answer or from the truth alike; absent things are None.

    boxes_M9 and labels_M in ego; map_6YX bool on `map_grid`; lanes as (points `(P, 2)`, class); semantics_XYZ
    Occ3D voxels.
    """

    boxes_M9: np.ndarray | None = None
    labels_M: np.ndarray | None = None
    map_6YX: np.ndarray | None = None
    map_grid: BEVGrid = MAP_GRID
    lanes: tuple[tuple[np.ndarray, int], ...] | None = None
    semantics_XYZ: np.ndarray | None = None
    mask_XYZ: np.ndarray | None = None


def layers_of_output(output: TaskOutput, score_threshold: float = 0.3, map_threshold: float = 0.5) -> Layers:
    """An answer's layers; boxes and lanes under the score threshold are left out."""
    boxes = labels = map_6YX = lanes = None
    grid = MAP_GRID
    if output.detection is not None:
        keep = output.detection.scores_M >= score_threshold
        boxes, labels = output.detection.boxes_M9[keep], output.detection.labels_M[keep]
    if output.map_segmentation is not None:
        m = output.map_segmentation
        map_6YX = m.probabilities_6YX >= map_threshold
        grid = BEVGrid(
            m.x_range_m, m.y_range_m, (m.x_range_m[1] - m.x_range_m[0]) / m.probabilities_6YX.shape[2]
        )
    if output.lanes is not None:
        keep = output.lanes.scores_L >= score_threshold
        lanes = tuple(zip(output.lanes.points_LP2[keep], output.lanes.labels_L[keep].tolist(), strict=True))
    occupancy = None if output.occupancy is None else output.occupancy.semantics_XYZ
    return Layers(boxes, labels, map_6YX, grid, lanes, occupancy)


def layers_of_truth(annotations: Annotations, camera_mask: bool = False) -> Layers:
    """The labels' layers; lanes are cut to 60 x 30 m, `camera_mask` hides voxels that no camera saw."""
    boxes, labels = (
        (None, None)
        if annotations.boxes is None
        else (annotations.boxes.boxes_M9, annotations.boxes.labels_M)
    )
    map_6YX = None if annotations.map_layers is None else np.stack([
        fill_polygons(annotations.map_layers.polygons.get(name, ()), MAP_GRID)
        | draw_lines(annotations.map_layers.lines.get(name, ()), MAP_GRID) for name in MAP_CLASSES])
    lanes = (
        None
        if annotations.lanes is None
        else tuple(
            (piece, int(label))
            for line, label in zip(annotations.lanes.points, annotations.lanes.labels_L, strict=True)
            for piece in clip_polyline(line, *LANE_RANGES_M['60x30'])
        )
    )
    semantics = mask = None
    if annotations.occupancy is not None:
        semantics = annotations.occupancy.semantics_XYZ
        mask = annotations.occupancy.mask_camera_XYZ if camera_mask else None
    return Layers(boxes, labels, map_6YX, MAP_GRID, lanes, semantics, mask)


def draw_cameras(rig: CameraRig, layers: Layers | None = None, points_ego: np.ndarray | None = None,
                 width_px: int = 480) -> np.ndarray:
    """All cameras in the places a driver expects (front row, back row), each `width_px` wide."""
    import cv2
    height_px = round(width_px * rig.image_size_hw[0] / rig.image_size_hw[1])
    layers = layers or Layers()

    def picture(name: str) -> np.ndarray:
        if name not in rig.names:
            return np.full((height_px, width_px, 3), 60, dtype=np.uint8)
        drawn = draw_camera(enlarged(rig, width_px), rig.names.index(name), layers.boxes_M9, layers.labels_M,
                            list(layers.lanes or ()), points_ego)
        cv2.putText(drawn, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        return drawn

    rows = _ROWS if set(rig.names) & set(CAMERAS) else (rig.names,)
    return np.concatenate([np.concatenate([picture(name) for name in row], 1) for row in rows], 0)


def enlarged(rig: CameraRig, width_px: int) -> CameraRig:
    """The rig with its images resized to `width_px`, intrinsics along with them (sharper lines on small
    images)."""
    import cv2
    height, width = rig.image_size_hw
    scale = width_px / width
    size = (width_px, round(height * scale))
    resized = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in rig.images_NHW3])
    pixel_change = np.array(
        [[scale, 0, (scale - 1) / 2], [0, size[1] / height, (size[1] / height - 1) / 2], [0, 0, 1]]
    )
    return CameraRig(
        rig.names, resized, pixel_change @ rig.K_N33, rig.ego_T_cam_N44, rig.present_N, rig.time_lag_s_N
    )


def draw_bev(
    layers: Layers, points_ego: np.ndarray | None = None, size_px: int = 600, range_m: float = 50.0
) -> np.ndarray:
    """Map, LiDAR, lanes, boxes and the car itself, seen from above, `(size_px, size_px, 3)`."""
    canvas = BevCanvas((-range_m, range_m), (-range_m, range_m), size_px / (2 * range_m))
    if layers.map_6YX is not None:
        canvas.draw_map(layers.map_6YX, layers.map_grid)
    if points_ego is not None:
        canvas.draw_points(points_ego, (120, 120, 120))
    canvas.draw_lanes(list(layers.lanes or ()))
    if layers.boxes_M9 is not None:
        canvas.draw_boxes(layers.boxes_M9, layers.labels_M)
    canvas.draw_ego()
    canvas.draw_scale()
    return canvas.image


def draw_frame(sample: Sample, answer: Layers | None, truth: Layers | None, title: str = '') -> np.ndarray:
    """The whole sheet, uint8 RGB: cameras with the answer (the truth where there is no answer), then a column
    per source."""
    points = None if sample.lidar is None else sample.lidar.points_P6[sample.lidar.points_P6[:, 5] == 0]
    shown = answer or truth or Layers()
    blocks = []
    for name, layers in (('prediction', answer), ('ground truth', truth)):
        if layers is not None:
            blocks.append(titled(draw_bev(layers, points), f'{name}: boxes, map, lanes'))
            if layers.semantics_XYZ is not None:
                blocks.append(
                    titled(
                        draw_occupancy(layers.semantics_XYZ, mask_XYZ=layers.mask_XYZ), f'{name}: occupancy'
                    )
                )
    below = np.concatenate(blocks, 1) if blocks else titled(draw_bev(Layers(), points), 'LiDAR')
    parts = [below]
    if sample.camera is not None:
        parts.insert(0, draw_cameras(sample.camera, shown, width_px=max(320, below.shape[1] // 3)))
    parts.append(draw_legend(max(p.shape[1] for p in parts)))
    width = max(p.shape[1] for p in parts)
    sheet = np.concatenate([_padded(p, width) for p in parts], 0)
    return titled(sheet, title) if title else sheet


def draw_legend(width_px: int) -> np.ndarray:
    """What the colours mean, as strips of names."""
    import cv2

    entries = (
        [(n, palette.DETECTION[n]) for n in DETECTION_CLASSES]
        + [(n, palette.MAP[n]) for n in MAP_CLASSES]
        + [(n, palette.LANES[n]) for n in LANE_CLASSES]
    )
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
    """The picture with a line of words above it."""
    import cv2
    bar = np.full((24, image.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(bar, title, (8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, palette.INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, image], 0)


def _padded(image: np.ndarray, width_px: int) -> np.ndarray:
    side = width_px - image.shape[1]
    return np.pad(image, ((0, 0), (0, side), (0, 0)), constant_values=255)
