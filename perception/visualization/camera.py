"""Boxes, lanes and LiDAR drawn on camera images."""
from __future__ import annotations

import numpy as np

from ..core.contracts import CameraRig
from ..core.geometry import box_corners, invert, project, transform_points
from ..core.protocols import LANE_CLASSES
from . import palette

_NEAR_M = 0.5
_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
_HEADING = ((0, 5), (1, 4))  # a cross on the front face


def draw_camera(
    rig: CameraRig,
    index: int,
    boxes_M9: np.ndarray | None = None,
    labels_M: np.ndarray | None = None,
    lanes: list[tuple[np.ndarray, int]] | None = None,
    points_ego: np.ndarray | None = None,
) -> np.ndarray:
    """One camera's image with boxes, lanes on the ground and LiDAR points drawn in, uint8 RGB `(H, W, 3)`.

    Args:
        boxes_M9: ego metres; labels_M into `DETECTION_CLASSES`.
        lanes: (points `(P, 2)` in ego metres at z = 0, class) pairs.
        points_ego: `(P, 3+)` metres. A camera that is not present comes back grey.
    """
    image = rig.images_NHW3[index].copy()
    if not rig.present_N[index]:
        return _absent(image)
    K, cam_T_ego = rig.K_N33[index], invert(rig.ego_T_cam_N44[index])
    if points_ego is not None:
        _draw_points(image, K, transform_points(cam_T_ego, points_ego[:, :3].astype(np.float64)))
    for line, label in lanes or []:
        _draw_ground_line(image, K, cam_T_ego, line, palette.LANES[LANE_CLASSES[label]])
    if boxes_M9 is not None and len(boxes_M9):
        _draw_boxes(image, K, cam_T_ego, boxes_M9, labels_M)
    return image


def _absent(image: np.ndarray) -> np.ndarray:
    import cv2
    image[:] = 90
    cv2.putText(
        image, 'no image', (8, image.shape[0] // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (200, 200, 200), 1,
        cv2.LINE_AA)
    return image


def _draw_points(image: np.ndarray, K: np.ndarray, points_cam: np.ndarray) -> None:
    pixels, depth_m = project(K, points_cam)
    columns, rows = np.round(np.nan_to_num(pixels, nan=-1e6)).clip(-1e6, 1e6).astype(int).T
    seen = (
        (depth_m > _NEAR_M)
        & (columns >= 0)
        & (columns < image.shape[1])
        & (rows >= 0)
        & (rows < image.shape[0])
    )
    order = np.argsort(-depth_m[seen])
    image[rows[seen][order], columns[seen][order]] = palette.heat(depth_m[seen][order], 2, 50)


def _draw_boxes(
    image: np.ndarray, K: np.ndarray, cam_T_ego: np.ndarray, boxes_M9: np.ndarray, labels_M: np.ndarray
) -> None:
    corners_M83 = transform_points(
        cam_T_ego, box_corners(boxes_M9.astype(np.float64)).reshape(-1, 3)
    ).reshape(-1, 8, 3)
    colours = palette.detection_colours()
    for m in np.argsort(-corners_M83[..., 2].mean(1)):
        if corners_M83[m, :, 2].max() > _NEAR_M:
            colour = tuple(int(v) for v in colours[int(labels_M[m])])
            for a, b in _EDGES + _HEADING:
                draw_segment(image, K, corners_M83[m, a], corners_M83[m, b], colour)


def _draw_ground_line(image: np.ndarray, K: np.ndarray, cam_T_ego: np.ndarray, line_P2: np.ndarray,
                      colour: tuple[int, int, int]) -> None:
    points = np.concatenate([line_P2[:, :2], np.zeros((len(line_P2), 1))], 1).astype(np.float64)
    points_cam = transform_points(cam_T_ego, points)
    for a, b in zip(points_cam[:-1], points_cam[1:], strict=True):
        draw_segment(image, K, a, b, colour, 2)


def draw_segment(
    image: np.ndarray,
    K: np.ndarray,
    a_cam: np.ndarray,
    b_cam: np.ndarray,
    colour: tuple[int, int, int],
    thickness_px: int = 1,
) -> None:
    """Draw a 3-D segment (camera frame, metres) into the image, cut at the near plane."""
    import cv2
    if a_cam[2] < b_cam[2]:
        a_cam, b_cam = b_cam, a_cam
    if a_cam[2] <= _NEAR_M:
        return
    if b_cam[2] < _NEAR_M:
        b_cam = a_cam + (b_cam - a_cam) * ((a_cam[2] - _NEAR_M) / (a_cam[2] - b_cam[2]))
    (p, q), _ = project(K, np.stack([a_cam, b_cam]))
    limit = 20 * max(image.shape[:2])
    if np.abs(np.stack([p, q])).max() < limit:
        cv2.line(
            image, tuple(np.round(p).astype(int).tolist()), tuple(np.round(q).astype(int).tolist()), colour,
            thickness_px, cv2.LINE_AA)
