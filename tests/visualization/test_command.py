"""The command that draws: one picture a frame, a page of all of them, cameras as large as asked for."""
from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from perception.cli import run_verb

DEBUG = Path(__file__).resolve().parents[2] / 'configs' / 'debug.py'


def draw(root: Path, out: Path, *words: str) -> int:
    """Draw the labels of the tiny world with the debug configuration."""
    root_option = f'test_dataloader.dataset.root={root}'
    return run_verb(
        'visualize', [str(DEBUG), '--ground-truth', '--out', str(out), *words, '--cfg-options', root_option])


def test_one_picture_a_frame_and_a_page(tiny_world, tmp_path):
    assert draw(tiny_world, tmp_path, '--frames', '0,2') == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ['00000.png', '00002.png', 'report.html']
    assert cv2.imread(str(tmp_path / '00000.png')).shape[1] == 1200


def test_full_resolution_draws_the_images_as_they_were_taken(tiny_world, tmp_path):
    draw(tiny_world, tmp_path / 'fitted', '--frames', '0')
    draw(tiny_world, tmp_path / 'full', '--frames', '0', '--full-resolution')
    fitted, full = (cv2.imread(str(tmp_path / name / '00000.png')) for name in ('fitted', 'full'))
    # images of 112 x 200 in two rows; the model's are 64 x 176, drawn 400 wide
    assert fitted.shape[0] - full.shape[0] == 2 * round(400 * 64 / 176) - 2 * 112


def test_tracks_of_the_labels_are_drawn(tiny_world, tmp_path):
    draw(tiny_world, tmp_path / 'bare', '--frames', '0:2')
    draw(tiny_world, tmp_path / 'tracked', '--frames', '0:2', '--tracks')
    bare, tracked = (cv2.imread(str(tmp_path / name / '00001.png')) for name in ('bare', 'tracked'))
    assert (bare != tracked).any(-1).sum() > 200


def test_no_frame_is_an_error(tiny_world, tmp_path):
    with pytest.raises(SystemExit, match='no frame was chosen'):
        draw(tiny_world, tmp_path, '--frames', '0:1', '--scene', 'scene-9999')
