"""sensor_msgs CameraInfo to intrinsics and lens."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.lens import Distortion
from .values import BadMessage, attribute, finite_numbers


@dataclass(frozen=True)
class CameraModel:
    """A camera.

    Attributes:
        size_hw: of its images in pixels; zeros where nothing says it.
        K_33: intrinsics in pixels; the centre of the top-left pixel is (0, 0).
        lens: None is a pinhole.
        frame: name of its optical frame (x right, y down, z forward).
    """

    size_hw: tuple[int, int]
    K_33: np.ndarray
    lens: Distortion | None = None
    frame: str = ''


def camera_model(message: Any, rectified: bool = False) -> CameraModel:
    """The camera of a sensor_msgs/CameraInfo, of the images as they are published.

    Args:
        message: ROS 1 or 2. A region of interest moves the principal point, binning shrinks all.
        rectified: the images are undistorted: the projection matrix P holds, and no lens.

    Raises:
        BadMessage: K is not calibrated, or a lens that is none of `LENSES_OF_ROS`.
    """
    numbers = np.array(finite_numbers('CameraInfo.k', *attribute(message, 'k', 'K'))).reshape(-1)
    if rectified:
        P = np.array(finite_numbers('CameraInfo.p', *attribute(message, 'p', 'P'))).reshape(-1)
        numbers = P.reshape(3, 4)[:, :3].ravel() if len(P) == 12 else numbers
    if len(numbers) != 9 or not (numbers[0] > 0 and numbers[4] > 0 and numbers[8] == 1):
        raise BadMessage(f'CameraInfo.k: found {numbers.tolist()}, expected a calibration (3 x 3)')

    K, size_hw = _of_published_image(message, numbers.reshape(3, 3).copy())
    lens = None if rectified else lens_of(message)
    return CameraModel(size_hw, K, lens, message.header.frame_id.lstrip('/'))


def _of_published_image(message: Any, K_33: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """K and size after region of interest and binning."""
    roi = message.roi
    height, width = roi.height or message.height, roi.width or message.width
    K_33[0, 2] -= roi.x_offset
    K_33[1, 2] -= roi.y_offset

    for axis, binning in enumerate((max(1, message.binning_x), max(1, message.binning_y))):
        # areas of pixels are put together, so their centres move by half a pixel
        K_33[axis, :2] /= binning
        K_33[axis, 2] = (K_33[axis, 2] + 0.5) / binning - 0.5
    return K_33, (int(height) // max(1, message.binning_y), int(width) // max(1, message.binning_x))


def lens_of(message: Any) -> Distortion | None:
    """The lens of a CameraInfo; None is a pinhole, also where all its numbers are zero.

    Raises:
        BadMessage: an unknown model, or numbers beyond those that ours has.
    """
    numbers = finite_numbers('CameraInfo.d', *attribute(message, 'd', 'D'))
    try:
        return Distortion.from_ros(
            message.distortion_model, numbers, ('CameraInfo.distortion_model', 'CameraInfo.d'))
    except ValueError as error:
        raise BadMessage(str(error)) from error
