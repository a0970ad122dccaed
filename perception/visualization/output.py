"""Pictures -> files: PNG, MP4, a rerun recording; pages for a browser are made in `pages/`."""
from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core.contracts import Sample
from ..core.files import write_bytes
from .layers import Layers


def encode_image(image_HW3: np.ndarray, suffix: str = '.png', quality: int = 95) -> bytes:
    """uint8 RGB -> the bytes of a picture file ('.png' or '.jpg'); `quality`, up to 100, is that of JPEG."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == '.jpg' else []
    encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image_HW3[..., ::-1]), options)
    if not encoded:
        raise ValueError(f'could not encode a picture of shape {image_HW3.shape} as {suffix}')
    return data.tobytes()


def write_image(path: str | Path, image_HW3: np.ndarray) -> Path:
    """Write a picture, whole or not at all."""
    return write_bytes(path, encode_image(image_HW3, Path(path).suffix))


def write_video(path: str | Path, images: Iterable[np.ndarray], frames_per_s: float = 2.0) -> Path:
    """Write an MP4; every picture is brought to the size of the first.

    Raises:
        ValueError: there is no picture.
        OSError: this OpenCV cannot write MP4.
    """
    import cv2

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + '.partial.mp4')

    writer = None
    for image in images:
        if writer is None:
            # the codec wants even sides
            size = (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
            writer = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*'mp4v'), frames_per_s, size)
            if not writer.isOpened():
                raise OSError(f'video {path}: this OpenCV cannot write MP4')
        writer.write(np.ascontiguousarray(cv2.resize(image, size)[..., ::-1]))

    if writer is None:
        raise ValueError(f'video {path}: no picture to write')
    writer.release()
    os.replace(partial, path)
    return path


def write_rerun(path: str | Path, frames: Iterable[tuple[Sample, Layers]]) -> Path:
    """Write a recording for the rerun viewer: images, LiDAR and every layer over time.

    Raises:
        ImportError: the [rerun] extra is not installed.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise ImportError('--rerun needs the [rerun] extra: pip install "perception[rerun]"') from error

    recording = rr.RecordingStream('perception')
    recording.save(str(path))
    for index, (sample, layers) in enumerate(frames):
        recording.set_time('frame', sequence=index)
        _log_sensors(rr, recording, sample)
        for layer in layers:
            layer.log_to_rerun(rr, recording)
    return Path(path)


def _log_sensors(rr: object, recording: object, sample: Sample) -> None:
    if sample.lidar is not None:
        recording.log('ego/lidar', rr.Points3D(sample.lidar.points_P6[:, :3]))
    if sample.camera is not None:
        for name, image in zip(sample.camera.names, sample.camera.images_NHW3, strict=True):
            recording.log(f'cameras/{name}', rr.Image(image).compress(jpeg_quality=85))
