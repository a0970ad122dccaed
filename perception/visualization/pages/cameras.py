"""Cameras for the viewer: small images and what projects into them."""
from __future__ import annotations

import base64
from typing import Any

import numpy as np

from ...core.contracts import CameraRig
from ...core.geometry import invert
from ...core.lens import Distortion
from ..camera import resize_rig
from ..output import encode_image
from .packing import rounded

_JPEG_QUALITY = 75
_BACK_RAD = 2.8
"""A camera that is turned farther from ahead looks back."""
_PINHOLE = {'code': 0, 'k': [], 'limit': 0}


def camera_records(rig: CameraRig, width_px: int) -> list[dict[str, Any]]:
    """The cameras that are present, as plain values: name, JPEG, size, K, pose, lens.

    Args:
        rig: of one sample.
        width_px: images wider than this are made narrower.
    """
    small = resize_rig(rig, min(width_px, rig.image_size_hw[1]))
    scale = small.image_size_hw[1] / rig.image_size_hw[1]

    records = []
    for i in from_left_to_right(rig):
        # where cameras differ, an image fills the upper left of its place
        height, width = (max(1, round(length * scale)) for length in rig.size_of(i))
        image = small.images_NHW3[i, :height, :width]
        records.append({
            'name': rig.names[i], 'size': [image.shape[0], image.shape[1]],
            'image': base64.b64encode(encode_image(image, '.jpg', _JPEG_QUALITY)).decode(),
            'K': rounded(small.K_N33[i].ravel(), 4),
            'cam_T_ego': rounded(invert(rig.ego_T_cam_N44[i]).ravel(), 6),
            'lens': lens_record(rig.distortion_of(i))})
    return records


def from_left_to_right(rig: CameraRig) -> list[int]:
    """The cameras that are present from left to right, those that look back at the end."""
    axes_N2 = rig.ego_T_cam_N44[:, :2, 2]
    turn_N = np.arctan2(axes_N2[:, 1], axes_N2[:, 0])
    turn_N = np.where(turn_N > _BACK_RAD, turn_N - 2 * np.pi, turn_N)
    return [i for i in np.argsort(-turn_N, kind='stable').tolist() if rig.present_N[i]]


def lens_record(distortion: Distortion | None) -> dict[str, Any]:
    """What `static/arrays.js` needs to bend rays as `core.lens` does."""
    if distortion is None or distortion.is_pinhole:
        return _PINHOLE
    code, *coefficients, limit = distortion.row
    # JSON has no infinity
    return {'code': int(code), 'k': coefficients, 'limit': min(limit, 1e6)}
