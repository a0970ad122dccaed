"""The command that draws: one picture a frame, a page of all of them, cameras as large as asked for."""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.cli import run_verb
from perception.core.config import read_config
from perception.core.contracts import TaskOutput
from perception.evaluation.storage.results import ResultStore
from perception.registry import DATASETS
from perception.visualization.pages import library
from tests.visualization.frames import make_output
from tests.visualization.pages.frames import element

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


def test_the_viewer_and_the_report_that_leads_to_it(tiny_world, tmp_path):
    pytest.importorskip('trimesh', reason='the [viewer] extra is not installed')
    assert draw(tiny_world, tmp_path, '--frames', '0:2', '--viewer', '--tracks') == 0
    page, report = ((tmp_path / name).read_text() for name in ('viewer.html', 'report.html'))
    facts = json.loads(element(page, 'page'))
    assert facts['sources'] == ['truth'] and len(facts['frames']) == 2
    # images as they were taken, not the model's crop of them
    assert json.loads(element(page, 'frame-data-1'))['cameras'][0]['size'] == [112, 200]
    assert 'href="viewer.html#frame-1"' in report


def test_two_models_are_read_from_their_results(tiny_world, tmp_path):
    pytest.importorskip('trimesh', reason='the [viewer] extra is not installed')
    config = read_config(DEBUG, {'test_dataloader.dataset.root': str(tiny_world)})
    frame = DATASETS.build(config.test_dataloader.dataset)[0][0].frame
    boxes = make_output().detection
    store = ResultStore(tmp_path / 'results')
    store.write(TaskOutput(frame, detection=boxes))
    store.merge({'use_lidar': True})

    out = tmp_path / 'out'
    results = ['--results', str(tmp_path / 'results'), str(tmp_path / 'results' / 'results_nusc.json')]
    options = ['--cfg-options', f'test_dataloader.dataset.root={tiny_world}']
    words = [str(DEBUG), '--out', str(out), '--frames', '0', '--viewer', *results, *options]
    assert run_verb('visualize', words) == 0

    sources = json.loads(element((out / 'viewer.html').read_text(), 'frame-data-0'))['sources']
    ours, theirs = sources['prediction']['boxes'], sources['other prediction']['boxes']
    assert ours['labels'] == theirs['labels'] == [0, 5]
    np.testing.assert_allclose(ours['items'], theirs['items'], atol=0.002)
    assert 'detection/NDS, these frames' in (out / 'report.html').read_text()


def test_a_missing_extra_is_one_line_that_says_what_to_install(tmp_path, capsys, monkeypatch):
    library.three_js.cache_clear()
    monkeypatch.setattr(library, 'find_spec', lambda name: None)
    words = [str(DEBUG), '--ground-truth', '--viewer', '--out', str(tmp_path / 'out')]
    assert run_verb('visualize', words) == 2
    assert capsys.readouterr().err.splitlines()[0].endswith('pip install "perception[viewer]"')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('words, message', [
    ([], 'give a CHECKPOINT'), (['--results', 'a', 'b', 'c'], 'at most two models'),
    (['--ground-truth', '--results', 'a'], 'leave out --results')])
def test_what_cannot_be_drawn_is_said_before_anything_is_read(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        run_verb('visualize', [str(DEBUG), '--out', str(tmp_path), *words])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
