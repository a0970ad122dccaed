"""A rig from what ROS knows of a car: camera_info files, and frames of a URDF or a tf tree."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..geometry import make_transform
from ..lens import Distortion
from ..reading import BadFile
from .file import LARGEST_IMAGE_PX
from .frames import FrameTree
from .plain import load_plain
from .sensors import FORWARD_T_OPTICAL, CameraSensor
from .view import looks_at_sky

__all__ = ['CameraInfo', 'read_camera_info', 'optical_pose', 'camera_of_info']

_UPRIGHT = 0.7


@dataclass(frozen=True)
class CameraInfo:
    """What a camera_info says.

    Attributes:
        size_hw: rows and columns.
        K_33: intrinsics of the images as they come from the camera.
        distortion: its lens; None for a pinhole.
        rectified_K_33: intrinsics of the images after rectification (the left of its projection matrix).
        rectified_R_cam: rotation (3, 3) from the camera's axes to those of the rectified image.
    """

    size_hw: tuple[int, int]
    K_33: np.ndarray
    distortion: Distortion | None
    rectified_K_33: np.ndarray | None = None
    rectified_R_cam: np.ndarray | None = None


def read_camera_info(path: str | Path) -> CameraInfo:
    """Read the YAML that ROS' camera_calibration writes (JSON does as well).

    Raises:
        BadFile: names the file and the field.
    """
    path = Path(path)
    content = load_plain(path)
    if not isinstance(content, Mapping):
        raise BadFile(path, f'found {type(content).__name__}, expected image_width, camera_matrix and so on')

    sides = tuple(content.get(field) for field in ('image_height', 'image_width'))
    for field, side in zip(('image_height', 'image_width'), sides, strict=True):
        if type(side) is not int or not 0 < side <= LARGEST_IMAGE_PX:
            raise BadFile(path, f'{field}: found {side!r:.60}, expected 1 to {LARGEST_IMAGE_PX} pixels')

    K = _matrix(path, content, 'camera_matrix', (3, 3))
    _check_intrinsics(path, 'camera_matrix', K)
    coefficients = _matrix(path, content, 'distortion_coefficients', None).ravel()
    lens = Distortion.from_ros(
        content.get('distortion_model'), coefficients.tolist(),
        (f'{path}: distortion_model', f'{path}: distortion_coefficients'))
    if 'projection_matrix' not in content:
        return CameraInfo(sides, K, lens)

    P = _matrix(path, content, 'projection_matrix', (3, 4))[:, :3]
    _check_intrinsics(path, 'projection_matrix', P)
    rotation = np.eye(3)
    if 'rectification_matrix' in content:
        rotation = _matrix(path, content, 'rectification_matrix', (3, 3))
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
            raise BadFile(path, 'rectification_matrix: expected a rotation')
    return CameraInfo(sides, K, lens, P, rotation)


def _matrix(path: Path, content: Mapping, field: str, shape: tuple[int, int] | None) -> np.ndarray:
    """A matrix `{rows, cols, data}`; None takes any shape."""
    record = content.get(field)
    if not isinstance(record, Mapping):
        raise BadFile(path, f'{field}: found {record!r:.60}, expected rows, cols and data')

    rows, cols, data = (record.get(part) for part in ('rows', 'cols', 'data'))
    plain = isinstance(data, list) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e9 for v in data)
    if not plain or type(rows) is not int or type(cols) is not int or rows * cols != len(data):
        raise BadFile(path, f'{field}: found {record!r:.100}, expected rows x cols finite numbers in data')
    if shape is not None and (rows, cols) != shape:
        raise BadFile(path, f'{field}: found {rows} x {cols}, expected {shape[0]} x {shape[1]}')
    return np.array(data, dtype=np.float64).reshape(rows, cols)


def _check_intrinsics(path: Path, field: str, K: np.ndarray) -> None:
    if not (K[0, 0] > 0 and K[1, 1] > 0) or np.abs([K[0, 1], *K[1:, 0], K[2, 1], K[2, 2] - 1]).max() > 1e-6:
        raise BadFile(
            path, f'{field}: found {K.tolist()}, expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], fx and fy '
            'above 0 (0 says: not calibrated)')


# -------------------------------------------------------------------- poses

def optical_pose(tree: FrameTree, base: str, frame: str, body: bool = False) -> np.ndarray:
    """`base_T_cam` (4, 4) of a camera, z forward.

    Args:
        tree: the car's frames.
        base: x forward, y left, z up (ROS REP 103).
        frame: the camera's: by ROS REP 103 an optical one, x right, y down, z forward.
        body: the frame is a camera's body instead, x forward, y left, z up.

    Raises:
        BadFile: no such frame, or its axes are those of the other kind.
    """
    base_T_frame = tree.pose(base, frame)
    down = -base_T_frame[2, 1]
    if not body and looks_at_sky(base_T_frame):
        raise BadFile(
            tree.source, f'frame {frame!r}: its z points up, so it is a body (x forward), expected the '
            'optical frame (x right, y down, z forward), often *_optical_frame; --body-frames takes bodies')
    if body and down > _UPRIGHT:
        raise BadFile(
            tree.source, f'frame {frame!r}: its y points down, so it is an optical frame (z forward), '
            'expected a body (x forward, z up); leave --body-frames out')
    return base_T_frame @ make_transform(FORWARD_T_OPTICAL, np.zeros(3)) if body else base_T_frame


def camera_of_info(
    name: str, info: CameraInfo, ego_T_cam: np.ndarray, rectified: bool = False
) -> CameraSensor:
    """A camera of a rig.

    Args:
        name: channel.
        info: its camera_info.
        ego_T_cam: (4, 4), of its optical frame.
        rectified: the images are those after rectification: no lens, and the projection matrix's intrinsics.

    Raises:
        ValueError: rectified images without a projection matrix.
    """
    if not rectified:
        return CameraSensor(name, info.size_hw, info.K_33, ego_T_cam, info.distortion)
    if info.rectified_K_33 is None:
        raise ValueError(f'{name}: found no projection_matrix in its camera_info, expected one (rectified)')
    turned = ego_T_cam @ make_transform(info.rectified_R_cam.T, np.zeros(3))
    return CameraSensor(name, info.size_hw, info.rectified_K_33, turned)
