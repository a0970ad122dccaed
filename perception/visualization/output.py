"""Pictures -> files: PNG, MP4, a self-contained HTML page, a rerun recording."""
from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..core.contracts import Sample
from ..core.files import write_bytes, write_text
from ..core.protocols import DETECTION_CLASSES
from .panel import Layers


def encode_image(image_HW3: np.ndarray, suffix: str = '.png') -> bytes:
    """uint8 RGB -> the bytes of a picture file ('.png' or '.jpg')."""
    import cv2
    good, data = cv2.imencode(suffix, np.ascontiguousarray(image_HW3[..., ::-1]))
    if not good:
        raise ValueError(f'could not encode a picture of shape {image_HW3.shape} as {suffix}')
    return data.tobytes()


def write_image(path: str | Path, image_HW3: np.ndarray) -> Path:
    """Write a picture, whole or not at all."""
    return write_bytes(path, encode_image(image_HW3, Path(path).suffix))


def write_video(path: str | Path, images: Iterable[np.ndarray], frames_per_s: float = 2.0) -> Path:
    """Write an MP4; every picture is brought to the size of the first.

    Raises:
        ValueError: there is no picture. OSError: this OpenCV cannot write MP4.
    """
    import cv2
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + '.partial.mp4')
    writer = None
    for image in images:
        if writer is None:
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


def write_report(
    path: str | Path, title: str, figures: dict[str, object], pictures: Sequence[tuple[str, np.ndarray]]
) -> Path:
    """One HTML page that needs nothing beside it: a table of figures, then captioned pictures."""
    rows = ''.join(f'<tr><td>{html.escape(str(name))}</td><td>{html.escape(_number(value))}</td></tr>'
                   for name, value in figures.items())
    body = ''.join(
        f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(encode_image(image, ".jpg")).decode()}">'
        f'<figcaption>{html.escape(caption)}</figcaption></figure>'
        for caption, image in pictures
    )
    style = ('body{font:15px sans-serif;margin:2em auto;max-width:1300px}img{width:100%}td{padding:.15em 1em;'
             'border-bottom:1px solid #ddd}figure{margin:1.5em 0}figcaption{color:#555}')
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
        f'<h1>{html.escape(title)}</h1><table>{rows}</table>{body}</html>'
    )
    return write_text(path, page)


def _number(value: object) -> str:
    return f'{value:.4f}' if isinstance(value, float) else str(value)


def write_rerun(path: str | Path, frames: Iterable[tuple[Sample, Layers]]) -> Path:
    """Write a recording for the rerun viewer: images, LiDAR, boxes and lanes over time.

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
        if layers.boxes_M9 is not None and len(layers.boxes_M9):
            boxes = layers.boxes_M9
            recording.log(
                'ego/boxes',
                rr.Boxes3D(
                    centers=boxes[:, :3],
                    half_sizes=boxes[:, 3:6] / 2,
                    labels=[DETECTION_CLASSES[int(i)] for i in layers.labels_M],
                    rotation_axis_angles=[
                        rr.RotationAxisAngle((0, 0, 1), angle=float(yaw)) for yaw in boxes[:, 6]
                    ],
                ),
            )
        if layers.lanes:
            recording.log(
                'ego/lanes', rr.LineStrips3D([np.pad(line, ((0, 0), (0, 1))) for line, _ in layers.lanes])
            )
    return Path(path)


def _log_sensors(rr: object, recording: object, sample: Sample) -> None:
    if sample.lidar is not None:
        recording.log('ego/lidar', rr.Points3D(sample.lidar.points_P6[:, :3]))
    if sample.camera is not None:
        for name, image in zip(sample.camera.names, sample.camera.images_NHW3, strict=True):
            recording.log(f'cameras/{name}', rr.Image(image).compress(jpeg_quality=85))
