"""Small scenes for the tests of the interactive page."""
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from perception.core.contracts import Boxes3D, Frame, Tracks
from perception.visualization import layers_of_output, layers_of_truth
from perception.visualization.pages.viewer import LOWEST_SCORE, ViewerFrame, ViewerWriter
from tests.visualization.frames import make_annotations, make_output, make_sample

EVIL = '</script><img src=x onerror=alert(1)>"&'


def make_frames(count: int = 3, scene: str = 'scene-0001') -> list[ViewerFrame]:
    """A drive of two boxes of which the other model sees one, 0.5 s between frames."""
    truth, output = layers_of_truth(make_annotations()), make_output()
    boxes = output.detection
    other = replace(output, detection=Boxes3D(
        boxes.boxes_M9[:1], boxes.scores_M[:1], boxes.labels_M[:1], boxes.attributes_M[:1]))
    tracks = Tracks(
        np.array([17]), boxes.boxes_M9[:1], np.array([0.9]), np.array([0]), np.array([0]),
        (np.array([[10.0, 10], [20, 10]]),), np.array([[[25.0, 10], [30, 10]]]))

    sources = {
        'prediction': layers_of_output(replace(output, extra={'tracking': tracks}), LOWEST_SCORE),
        'other prediction': layers_of_output(other, LOWEST_SCORE), 'truth': truth}
    moments = [Frame(f't{i}', 10**18 + i * 5 * 10**8, np.eye(4), scene) for i in range(count)]
    return [
        ViewerFrame(f'frame {i}', replace(make_sample(), frame=frame), sources)
        for i, frame in enumerate(moments)]


def write_page(folder: Path, frames: list[ViewerFrame], title: str = 'demo') -> Path:
    """The page of some frames."""
    writer = ViewerWriter(title)
    for frame in frames:
        writer.add(frame)
    return writer.write(folder / 'viewer.html')


def element(page: str, name: str) -> str:
    """The JSON of one data element of a page."""
    return re.search(f'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL).group(1)
