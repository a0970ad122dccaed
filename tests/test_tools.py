"""The commands: each explains itself and is the door of a verb. What the pages show: tests/cli."""
from __future__ import annotations

import argparse
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from perception.cli import commands, demo
from perception.cli.demo import progress

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted((ROOT / 'tools').glob('*.py'))
# the demo runs the other commands on its own configuration and weights; fuzz and learn_by_heart are tests
# (tests/fuzz, tests/by_heart)
NO_VERB = {'demo', 'fuzz', 'learn_by_heart'}
CONTRACT = {
    'make_world', 'create_data', 'doctor', 'train', 'test', 'evaluate', 'export', 'benchmark', 'visualize'}
LINES = 25


class Stop(Exception):
    """Raised instead of doing the work: carries the parser and what it made of the words."""


def parse(
    path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Start a tool with words, let it parse them, and stop it there."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise Stop(parser, original(parser, *args, **kwargs))
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(sys, 'argv', [str(path), *words])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    with pytest.raises(Stop) as stopped:
        runpy.run_path(str(path), run_name='__main__')
    return stopped.value.args


def all_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and those of its sub-commands."""
    subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [parser, *(found for sub in subs for one in sub.choices.values() for found in all_parsers(one))]


def test_the_commands_of_the_contract_are_there():
    assert {path.stem for path in TOOLS} >= CONTRACT


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_help_exits_zero_and_says_what_the_tool_does(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [str(path), '--help'])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(path), run_name='__main__')
    text = capsys.readouterr().out
    assert left.value.code in (0, None)
    assert text.startswith('usage: ') and '--help' in text
    words = re.split(r'\n(?:options|positional arguments):', text)[0].split('\n\n', 1)[1]
    assert len(words.split()) >= 7, f'--help of {path.name} hardly says what it does: {words!r}'
    assert max(len(line) for line in text.splitlines()) <= 140


@pytest.mark.parametrize('path', [p for p in TOOLS if p.stem in CONTRACT], ids=lambda path: path.stem)
def test_every_argument_says_what_it_takes(path, monkeypatch):
    monkeypatch.setattr(
        argparse.ArgumentParser, 'error', lambda parser, message: (_ for _ in ()).throw(Stop(parser, message))
    )
    first = parse(path, [], monkeypatch)[0]
    dumb = [
        f'{parser.prog} {"/".join(action.option_strings) or action.dest}'
        for parser in all_parsers(first)
        for action in parser._actions
        if not (action.help or action.choices or action.metavar or action.nargs == 0)
    ]
    assert [name for name in dumb if name.split()[-1] not in ('config', 'checkpoint')] == []


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_a_tool_is_a_door(path):
    text = path.read_text(encoding='utf-8')
    assert path.stem in NO_VERB or f"run_verb('{path.stem.replace('_', '-')}')" in text
    assert len(text.splitlines()) < LINES, f'{path.name}: the logic lives in perception/cli/'


def test_every_verb_has_a_file_and_a_door():
    files = {path.stem for path in (ROOT / 'perception' / 'cli').glob('*/*.py')}
    files -= {
        '__init__', 'affinity_picture', 'averaged', 'calibrations', 'corruption_rows', 'play_bag',
        'step_costs', 'teacher', 'tracked_truth', 'training_costs'}
    verbs = {verb.replace('-', '_') for verb in commands.VERBS}
    assert files == verbs == {path.stem for path in TOOLS} - NO_VERB


def test_the_command_lists_its_verbs_on_one_screen(capsys):
    assert commands.main(['--help']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120
    for verb in commands.VERBS:
        line = next(line for line in lines if line.startswith(f'  {verb} '))
        assert len(line.split()) >= 5, f'{verb} hardly says what it does'


def test_an_unknown_verb_is_told_the_nearest(capsys):
    assert commands.main(['exprot']) == 2
    assert "no verb 'exprot'; did you mean 'export'?" in capsys.readouterr().err


def test_a_verb_takes_its_arguments_and_gives_its_status(capsys):
    assert commands.main(['test', '--corruption', 'list']) == 0
    assert 'severities' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        commands.main(['test'])
    assert 'usage: perception test' in capsys.readouterr().err


def test_the_package_runs_as_a_module(tmp_path):
    command, environment = commands.child_process('doctor')
    shown = subprocess.run(
        [*command, '--help'], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout.startswith('usage: perception doctor'), shown.stderr


def test_a_tool_runs_from_any_folder(tmp_path):
    command = [sys.executable, ROOT / 'tools' / 'create_data.py', 'nuscenes', '--help']
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0 and '--shard' in found.stdout, found.stderr


def test_the_demo_looks_at_the_shipped_weights_before_it_trains():
    order = list(demo.STEPS)
    assert order.index('look') < order.index('show') < order.index('train')
    for name in ('look', 'show'):
        assert (ROOT / demo.STEPS[name][1]).is_file() and (ROOT / demo.STEPS[name][2]).is_file()
    # both look at the scenes that were made for it, and no step writes where another one does
    assert f'test_dataloader.dataset.root={demo.LOOK_WORLD}' in demo.LOOK_AT
    places = [words[words.index('--out') + 1] for words in demo.STEPS.values() if '--out' in words]
    assert len(set(places)) == len(places)


def test_the_demo_shows_the_losses_by_task():
    line = (
        '2026/11/29 17:36:20 - mmengine - INFO - Epoch(train)  [2][ 40/224]  lr: 2.9700e-03  '
        'base_lr: 3.0e-03  eta: 0:04:12  time: 0.6  data_time: 0.01  memory: 900  loss: 9.5000  '
        'loss/detection/heatmap: 2.2500  loss/detection/boxes: 1.0000  loss/map_segmentation/focal: 4.0000  '
        'loss/lanes/points: 2.2500  loader_wait_share: 0.01')
    assert progress(line) == (
        'epoch 2 step  40/224  loss: total 9.50  detection 3.25  map 4.00  lanes 2.25  left 0:04:12')
    assert progress('  [1/2] 31.2 s per key frame, 31 s left\n') == '[1/2] 31.2 s per key frame, 31 s left'
    assert progress('Exp name: demo_20261129') is None
