"""`perception track` from detections to scored tracks."""
from __future__ import annotations

import json

import numpy as np
import pytest

from perception.cli import run_verb
from perception.evaluation.detection.file import TRACKING, read_box_results
from perception.evaluation.detection.truth import GroundTruth
from perception.evaluation.evaluate import Split, evaluate
from tests.evaluation.conftest import boxes_as_results, write_tables

WHERE = ['--version', 'v1.0-mini', '--split', 'mini_val']


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Two scenes of six samples."""
    return write_tables(tmp_path_factory.mktemp('track'))


@pytest.mark.parametrize('motion', ['velocity', 'kalman'])
def test_true_boxes_are_tracked_and_scored(root, motion, tmp_path, capsys):
    """Objects keep their numbers as far as the gates allow; numbers of two scenes differ; other classes are
    left out."""
    truth = GroundTruth.from_tables(root, 'v1.0-mini', 'mini_val')
    detections, out = tmp_path / 'detections.json', tmp_path / 'tracks.json'
    detections.write_text(json.dumps(boxes_as_results(truth)))

    assert run_verb('track', [
        str(detections), '--root', str(root), *WHERE, '--motion', motion, '--out', str(out)]) == 0
    assert 'ms a frame' in capsys.readouterr().out
    tracks = read_box_results(out)
    assert tracks.format is TRACKING and tracks.meta['use_camera'] is True
    assert tracks.tokens == truth.tokens

    scene_of = dict(zip(truth.drives.tokens, truth.drives.scenes, strict=True))
    scenes_of_id: dict[str, set[str]] = {}
    for sample, identity in zip(tracks.boxes.sample_M.tolist(), tracks.ids, strict=True):
        scenes_of_id.setdefault(identity, set()).add(scene_of[tracks.tokens[sample]])
    assert all(len(scenes) == 1 for scenes in scenes_of_id.values())
    assert len(tracks.boxes) == np.isin(boxes_labels(detections), list(TRACKING.label_of.values())).sum()

    scores = evaluate(out, Split(root, 'v1.0-mini', 'mini_val')).metrics
    assert scores['tracking/AMOTA'] > 0.5 and scores['tracking/AMOTP'] < 1.0


def boxes_labels(path):
    return read_box_results(path).boxes.label_M


def test_the_default_place_is_beside_the_detections(root, tmp_path):
    truth = GroundTruth.from_tables(root, 'v1.0-mini', 'mini_val')
    path = tmp_path / 'results_nusc.json'
    path.write_text(json.dumps(boxes_as_results(truth)))
    assert run_verb('track', [str(tmp_path), '--root', str(root), *WHERE]) == 0
    assert (tmp_path / 'tracks_nusc.json').is_file()

    # tracks cannot be tracked again, and a lost sample is named
    assert run_verb('track', [str(tmp_path / 'tracks_nusc.json'), '--root', str(root), *WHERE]) == 1
    content = json.loads(path.read_text())
    del content['results'][truth.tokens[3]]
    path.write_text(json.dumps(content))
    assert run_verb('track', [str(tmp_path), '--root', str(root), *WHERE]) == 1
