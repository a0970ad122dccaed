"""Files: whole or not there, readable by others, and the page needs nothing beside it."""
from __future__ import annotations

import sys

import numpy as np
import pytest

from perception.core.contracts import Frame, LidarPoints, Sample
from perception.visualization import output
from perception.visualization.detection import DetectionLayer
from perception.visualization.lanes import LaneLayer
from perception.visualization.output import encode_image, write_image, write_rerun, write_video


@pytest.fixture
def picture() -> np.ndarray:
    """Red left, green right, blue below."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:40, :40, 0], image[:40, 40:, 1], image[40:, :, 2] = 255, 255, 255
    return image


def read(path) -> np.ndarray:
    import cv2
    return cv2.imread(str(path))[..., ::-1]


def test_a_png_holds_the_picture_bit_for_bit(tmp_path, picture):
    path = write_image(tmp_path / 'deep' / 'folder' / 'a.png', picture)
    np.testing.assert_array_equal(read(path), picture)


def test_a_jpeg_keeps_the_colours_in_order(tmp_path, picture):
    image = read(write_image(tmp_path / 'a.jpg', picture)).astype(int)
    for (row, column), colour in {
        (20, 20): (255, 0, 0), (20, 60): (0, 255, 0), (50, 40): (0, 0, 255)}.items():
        assert np.abs(image[row, column] - colour).max() < 12


def test_views_that_are_not_contiguous_are_written_too(tmp_path, picture):
    np.testing.assert_array_equal(read(write_image(tmp_path / 'a.png', picture[:, ::-1])), picture[:, ::-1])


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, picture, monkeypatch):
    path = write_image(tmp_path / 'a.png', picture)
    before = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError('no space left')
    monkeypatch.setattr(output.os, 'replace', full_disk)
    with pytest.raises(OSError, match='no space'):
        write_image(path, np.zeros_like(picture))
    assert path.read_bytes() == before


def test_an_unknown_kind_of_picture_is_an_error(picture):
    import cv2
    with pytest.raises((ValueError, cv2.error)):
        encode_image(picture, '.nonsense')


def test_a_video_has_every_picture_in_order_at_one_size(tmp_path):
    import cv2

    pictures = [np.full((61, 81, 3), value, np.uint8) for value in (40, 120, 200)] + [
        np.full((30, 40, 3), 250, np.uint8)
    ]
    path = write_video(tmp_path / 'scene.mp4', pictures, frames_per_s=2.0)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == 2.0
    frames = []
    while True:
        good, frame = video.read()
        if not good:
            break
        frames.append(frame)
    assert [frame.shape for frame in frames] == [(60, 80, 3)] * 4  # even sides
    np.testing.assert_allclose([frame.mean() for frame in frames], [40, 120, 200, 250], atol=6)
    assert [p.name for p in tmp_path.iterdir()] == ['scene.mp4']


def test_a_video_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='no picture'):
        write_video(tmp_path / 'scene.mp4', [])
    assert list(tmp_path.iterdir()) == []


def test_rerun_without_the_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    with pytest.raises(ImportError, match=r'perception\[rerun\]'):
        write_rerun(tmp_path / 'scene.rrd', [])


def test_rerun_writes_a_recording(tmp_path):
    pytest.importorskip('rerun', reason='the [rerun] extra is not installed')
    sample = Sample(Frame('token', 0, np.eye(4)), lidar=LidarPoints(np.ones((5, 6), np.float32)))
    boxes = DetectionLayer(np.array([[10, 0, 1, 4, 2, 1.5, 0.3, 0, 0]], np.float32), np.array([0]))
    layers = (boxes, LaneLayer(((np.array([[0.0, 1], [5, 1]]), 0),)))
    path = write_rerun(tmp_path / 'scene.rrd', [(sample, layers)] * 2)
    assert path.read_bytes().startswith(b'RRF')
