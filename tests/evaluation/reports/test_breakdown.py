"""Histograms, calibration, distance and visibility by hand; the scorecard as a page that stands alone."""
from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from perception.core.contracts import (
    Annotations,
    Boxes3D,
    BoxLabels,
    Frame,
    Occupancy,
    OccupancyLabels,
    TaskOutput,
)
from perception.evaluation.detection.breakdown import by_class, by_distance, by_visibility, match_all
from perception.evaluation.errors import ResultError
from perception.evaluation.reports.calibration import calibration_error, score_bins
from perception.evaluation.reports.scorecard import Run, scorecard, write_scorecard
from perception.evaluation.reports.table import format_details
from perception.evaluation.suite import MetricSuite, Report


def report(
    found=(True, True, False), scores=(0.9, 0.8, 0.7), distance=(5.0, 15.0, 25.0), confidence: float = 0.5
) -> Report:
    """Three cars ahead at 5, 15 and 25 m, visible 4, 4 and 1; detections beside the road where not found; two
    voxels."""
    def boxes(side):
        return np.array(
            [[x, y, 1, 4, 2, 1.5, 0, 0, 0] for x, y in zip(distance, side, strict=True)], np.float32
        )

    frame, three = Frame('a', 0, np.eye(4)), np.zeros(3, int)
    grid = np.array([4, 17], np.uint8).reshape(2, 1, 1)
    truth = Annotations(
        'a', BoxLabels(boxes([0, 0, 0]), three, three - 1, three + 3, three, np.array([4, 4, 1])),
        occupancy=OccupancyLabels(grid, np.ones_like(grid), np.ones_like(grid)))
    prediction = TaskOutput(
        frame, Boxes3D(boxes([0 if f else 8 for f in found]), np.array(scores, np.float32), three, three - 1),
        occupancy=Occupancy(np.full_like(grid, 4), np.full(grid.shape, confidence, np.float16)))
    suite = MetricSuite(('detection', 'occupancy'), {'occupancy': {'rays': False}})
    return suite.report([suite.summarise(prediction, truth)])


def test_calibration_by_hand():
    """Two boxes at 0.75, one right: |1 - 1.5| / 2 = 0.25. Four at 0.75, three right: 0."""
    assert calibration_error(score_bins(np.array([0.75, 0.75]), np.array([True, False]))) == pytest.approx(
        0.25
    )
    assert calibration_error(score_bins(np.full(4, 0.75), np.array([1, 1, 1, 0], bool))) == pytest.approx(
        0, abs=1e-12
    )
    assert math.isnan(calibration_error(score_bins(np.zeros(0), np.zeros(0, bool))))


def test_bins_hold_every_score():
    bins = score_bins(np.array([0.0, 0.049, 0.05, 1.0, 1.7]), np.array([1, 0, 1, 1, 0], bool))
    assert bins[0, 0] == 2 and bins[0, 1] == 1 and bins[0, -1] == 2 and bins[1].sum() == 3


def test_right_and_wrong_are_told_apart():
    total = report().totals['detection']
    matches = match_all(total.boxes, total.truth)
    assert matches.hit_M.tolist() == [True, True, False] and matches.found_G.tolist() == [True, True, False]
    assert by_class(matches)['all'][:2].sum(1).tolist() == [3, 2] and set(by_class(matches)) == {'all', 'car'}


def test_distance_by_hand():
    total = report().totals['detection']
    rows = by_distance(total.boxes, total.truth)
    assert [r['truths'] for r in rows] == [1, 1, 1, 0, 0]
    assert [r['mAP'] for r in rows[:3]] == pytest.approx([1, 1, 0]) and math.isnan(rows[3]['mAP'])
    assert rows[0]['mATE'] == pytest.approx(0, abs=1e-6)


def test_visibility_by_hand():
    total = report().totals['detection']
    assert by_visibility(match_all(total.boxes, total.truth)) == [
        {'visible': '0-40 %', 'truths': 1, 'recall': 0.0},
        {'visible': '80-100 %', 'truths': 2, 'recall': 1.0}]


def test_occupancy_confidence_by_hand():
    """Two voxels called car with confidence 0.5, one right: perfectly calibrated; with 0.9 it is 0.4 too
    sure."""
    assert report().details()['occupancy_ece'] == pytest.approx(0, abs=3e-3)
    assert report(confidence=0.9).details()['occupancy_ece'] == pytest.approx(0.4, abs=3e-3)


def test_breakdown_survives_json_and_prints():
    found = report().details()
    again = json.loads(json.dumps(found))
    assert again['occupancy_confusion_camera'][17][4] == 1 and again['occupancy_classes'][4] == 'car'
    text = format_details(found)
    assert '80-100 %' in text and '20-30' in text and 'ECE' in text and format_details({}) == ''


class Page(HTMLParser):
    """Counts tags, collects what would be fetched, checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.outside += [v for k, v in attrs if k in ('src', 'href')]
        if tag not in ('meta', 'br', 'rect', 'line', 'polyline'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag, tag


def runs() -> list[Run]:
    good, bad = report((True, True, True)), report((True, False, False), confidence=0.9)
    return [Run('first <run>', bad.metrics, bad.details()), Run('second', good.metrics, good.details()),
            Run('scores only', {'detection/NDS': 0.3, 'map/mIoU': 0.5, 'map/IoU_walkway': 0.5})]


def test_scorecard_stands_alone():
    text = scorecard(runs())
    page = Page()
    page.feed(text)
    assert not page.outside and not page.open[:-2] and 'script' not in page.seen and '<run>' not in text
    assert page.seen['svg'] >= 8 and page.seen['table'] >= 5
    assert 'url(' not in text and '@import' not in text and len(text) < 400_000
    for word in (
        'first &lt;run&gt;', 'NDS', 'geometry_IoU_lidar', 'walkway', '80-100 %', 'driveable_surface'):
        assert word in text


def test_scorecard_marks_the_better_run():
    text = scorecard(runs()[:2])
    row = re.search(r'<tr><td>mAP</td>(.*?)</tr>', text).group(1)
    assert row.index('class="best"') > row.index('</td>')
    error = re.search(r'<tr><td>mATE</td>(.*?)</tr>', text).group(1)
    assert error.count('class="best"') >= 1
    with pytest.raises(ValueError, match='at least one run'):
        scorecard([])


def test_runs_are_read_from_files(tmp_path):
    known = report()
    content = {'name': 'night', 'metrics': known.metrics, 'breakdown': known.details()}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    (tmp_path / 'b.json').write_text(json.dumps(known.metrics))
    (tmp_path / 'c.json').write_text('[1]')
    found = [Run.read(tmp_path / name) for name in ('a.json', 'b.json')]
    assert [r.name for r in found] == ['night', 'b'] and found[0].breakdown['by_visibility']
    assert write_scorecard(tmp_path / 'page.html', found).stat().st_size > 5000
    with pytest.raises(ResultError, match='c.json: expected an object of scores'):
        Run.read(tmp_path / 'c.json')


@pytest.mark.parametrize('breakdown', [
    3, [1], {'score_bins': 3}, {'score_bins': {'all': 'x'}}, {'score_bins': {'all': [[-1], [0], [0]]}},
    {'occupancy_confusion_camera': [[1]]}, {'detection_ece': [0.1]}])
def test_breakdowns_that_cannot_be_drawn_name_the_file(tmp_path, breakdown):
    path = tmp_path / 'odd.json'
    path.write_text(json.dumps({'metrics': {'detection/NDS': 0.5}, 'breakdown': breakdown}))
    with pytest.raises(ResultError, match='odd.json: breakdown: found what cannot be drawn'):
        Run.read(path)
