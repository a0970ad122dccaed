"""The page of a training: runs joined without double points, charts by task, written while it runs."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from perception.cli.commands import main as perception
from perception.training.page import TrainingPageHook, write_page
from perception.training.page.charts import Chart, charts_of, draw, thinned
from perception.training.page.history import read_history
from perception.visualization import write_image
from perception.visualization.training import ValidationPictureHook
from tests.visualization.frames import make_output, make_sample


class Pairs(list):
    """A dataset of one pair."""

    indices = {'token': 0}


SCORES = {'NDS': 'detection/NDS'}


def write_run(work_dir: Path, name: str, first: int, last: int, value: float, torn: bool = False) -> None:
    """A run of ten steps an epoch: rows of steps, a score after each epoch, a picture with it."""
    folder = work_dir / name / 'vis_data'
    (folder / 'vis_image').mkdir(parents=True)
    rows = []
    for step in range(first, last + 1):
        rows.append({
            'loss': value, 'loss/detection/heatmap': value, 'loss/lanes/points': 2 * value, 'lr': 0.1,
            'gradient_at_trunk/lanes': 1.0, 'gradient_cosine/detection-lanes': -0.5,
            'memory': float('nan'), 'epoch': step // 10 + 1, 'iter': step, 'step': step})
        if step % 10 == 0:
            rows.append({'detection/NDS': value, 'detection/AP_car': 0.0, 'step': step // 10})
            write_image(folder / 'vis_image' / f'sample_0_{step}.png', np.zeros((4, 4, 3), np.uint8))
    text = '\n'.join(json.dumps(row) for row in rows)
    (folder / 'scalars.json').write_text(text + ('\n{"loss": 0.' if torn else '\n'), encoding='utf-8')


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """Stopped after step 25; resumed from the checkpoint of step 20, now at step 33 and half a line."""
    write_run(tmp_path, '20260101_000000', 1, 25, 1.0)
    write_run(tmp_path, '20260102_000000', 21, 33, 2.0, torn=True)
    return tmp_path


def test_a_resumed_training_has_each_step_once(work_dir: Path) -> None:
    history = read_history(work_dir)
    assert [step for step, _ in history.train['loss']] == [*range(1, 34)]
    assert [value for _, value in history.train['loss']] == [1.0] * 20 + [2.0] * 13
    assert history.validation['detection/NDS'] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert [picture.step for picture in history.pictures] == [10, 20, 30]
    assert history.step == 33 and history.runs == 2 and 'memory' not in history.train


def test_a_training_that_begins_again_replaces_the_one_before(work_dir: Path) -> None:
    write_run(work_dir, '20260103_000000', 1, 4, 3.0)
    history = read_history(work_dir)
    assert history.train['loss'] == [(step, 3.0) for step in range(1, 5)]
    assert not history.validation and not history.pictures


def test_charts_are_by_task(work_dir: Path) -> None:
    charts = charts_of(read_history(work_dir), SCORES)
    titles = {section: [chart.title for chart in found] for section, found in charts.items()}
    assert titles == {
        'Losses': ['all tasks', 'detection', 'lanes'],
        'Gradients': ['gradient norms by task', 'cosines between tasks'], 'Validation': ['NDS'],
        'Progress': ['learning rate']}
    assert list(charts['Gradients'][1].lines) == ['detection-lanes']


def test_long_lines_are_averaged() -> None:
    points = [(step, float(step)) for step in range(1000)]
    short = thinned(points, 400)
    assert len(short) == 334 and short[0] == (1.0, 1.0) and short[-1] == (999.0, 999.0)
    assert thinned(points[:3]) == points[:3]


def test_names_from_files_are_escaped() -> None:
    text = draw(Chart('<b>', {'<i>&': [(1, 1.0), (2, 2.0)], 'b': [(1, 3.0)]}, is_log=True))
    assert text.startswith('<svg') and '<b>' not in text and '<i>' not in text


def test_the_command_writes_one_page_without_scripts(work_dir: Path, capsys) -> None:
    assert perception(['training-page', str(work_dir)]) == 0
    page = work_dir / 'training.html'
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text(encoding='utf-8')
    assert text.count('<svg') == 7 and '<script' not in text and 'step 33' in text
    for link in re.findall('src="([^"]+)"', text):
        assert (work_dir / link).is_file()

    assert perception(['training-page', str(work_dir / 'nowhere')]) == 2
    assert 'nowhere: expected the work dir of a training' in capsys.readouterr().err


@pytest.mark.skipif(shutil.which('chromium') is None, reason='no chromium to open the page in')
def test_a_browser_shows_it(work_dir: Path, tmp_path: Path) -> None:
    picture = tmp_path / 'shown.png'
    subprocess.run(
        ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--window-size=1250,1500',
         f'--screenshot={picture}', write_page(work_dir).as_uri()],
        check=True, capture_output=True, timeout=60)
    import cv2
    shown = cv2.imread(str(picture))
    assert shown.shape[:2] == (1500, 1250)
    blue = (np.abs(shown.astype(int) - (180, 119, 31)).max(-1) < 8).sum()  # matplotlib's first line, BGR
    assert blue > 200


def test_the_hook_writes_by_the_clock_in_the_first_process(work_dir: Path) -> None:
    page = work_dir / 'training.html'
    for rank, every_s, is_written in ((1, 0, False), (0, 1e9, False), (0, 0, True)):
        runner = SimpleNamespace(rank=rank, work_dir=str(work_dir))
        hook = TrainingPageHook(every_s=every_s)
        hook.after_train_iter(runner, 0)
        assert page.is_file() == is_written, (rank, every_s)


def test_a_page_that_cannot_be_written_stops_no_training(tmp_path: Path) -> None:
    warnings: list[str] = []
    runner = SimpleNamespace(rank=0, work_dir=str(tmp_path), logger=SimpleNamespace(warning=warnings.append))
    hook = TrainingPageHook(every_s=0)
    hook.after_train_iter(runner, 0)
    hook.after_train_iter(runner, 1)
    assert len(warnings) == 1 and 'found no <time>/vis_data/scalars.json' in warnings[0]


def test_a_validation_draws_its_first_samples() -> None:
    """Two of three samples, with the step in their names' places; none before its time."""
    sample, output = make_sample(), make_output()
    drawn: list[tuple[str, int]] = []
    runner = SimpleNamespace(
        rank=0, iter=7, val_dataloader=SimpleNamespace(dataset=Pairs([(sample, None)])),
        visualizer=SimpleNamespace(add_image=lambda name, picture, step: drawn.append((name, step))))
    for after_s, expected in ((1e9, []), (0, [('sample_0', 7), ('sample_1', 7)])):
        hook = ValidationPictureHook(samples=2, after_s=after_s)
        hook.before_train(runner)
        hook.before_val_epoch(runner)
        for number in range(3):
            hook.after_val_iter(runner, number, {'data_samples': [None]}, [output])
        assert drawn == expected


def test_a_picture_that_cannot_be_drawn_stops_no_training() -> None:
    """A dataset of one's own need not look frames up by token; a file may be damaged."""
    said: list[str] = []
    runner = SimpleNamespace(
        rank=0, iter=7, val_dataloader=SimpleNamespace(dataset=[]),
        logger=SimpleNamespace(warning=said.append))
    hook = ValidationPictureHook(after_s=0)
    hook.before_train(runner)
    for number in range(3):
        hook.after_val_iter(runner, number, {'data_samples': [None]}, [make_output()])
    assert len(said) == 1 and "token was not drawn: AttributeError: 'list'" in said[0]
