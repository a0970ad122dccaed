"""The commands: each explains itself, and what the pages tell people to type is something they take."""
from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perception.cli import commands
from perception.cli.demo import progress

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted((ROOT / 'tools').glob('*.py'))
# the demo runs the other commands on its own configuration and weights; fuzz is a test (tests/fuzz)
NO_VERB = {'demo', 'fuzz'}
PAGES = [
    *(ROOT / folder / 'README.md' for folder in ('.', 'perception', 'data')),
    *sorted((ROOT / 'docs').glob('*.md'))]
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
    files -= {'__init__', 'corruption_rows'}
    verbs = {verb.replace('-', '_') for verb in commands.VERBS}
    assert files == verbs == {path.stem for path in TOOLS} - NO_VERB


def test_the_command_lists_its_verbs_on_one_screen(capsys):
    assert commands.main(['--help']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 120
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


# -------------------------------------------------------------------- the pages

def typed_commands() -> list[tuple[str, str]]:
    """(page, command) of every line in a fence that starts a tool or a verb and has no placeholder in it."""
    found = []
    for page in PAGES:
        for fence in re.findall(
            r'^ *```\w*\n(.*?)^ *```$', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE
        ):
            for line in re.sub(r'\s*\\\n\s*', ' ', fence).splitlines():
                command = re.split(r' #|   ', line.strip())[0].strip()
                starts_a_tool = re.match(r'(python|torchrun .*?) tools/\w+\.py |perception [a-z]', command)
                if starts_a_tool and not re.search(r'\b[A-Z]{3,}\b|\[|\.\.\.', command):
                    found.append((str(page.relative_to(ROOT)), command))
    return found


COMMANDS = typed_commands()


def test_there_are_commands_to_try():
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize(
    'page, command', COMMANDS, ids=[f'{page}-{command[:60]}' for page, command in COMMANDS]
)
def test_what_a_page_tells_to_type_is_taken(page, command, monkeypatch):
    words = shlex.split(command)
    if words[0] == 'perception':
        words[:2] = [f'tools/{words[1].replace("-", "_")}.py']
    at = next(i for i, word in enumerate(words) if word.startswith('tools/'))
    parse(ROOT / words[at], words[at + 1:], monkeypatch)
    missing = [word for word in words if word.startswith('configs/') and not (ROOT / word).is_file()]
    assert missing == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page):
    text = page.read_text(encoding='utf-8')
    links = {(page.parent / target.split('#')[0]).resolve() for target in re.findall(r'\]\(([^)\s]+)\)', text)
             if '://' not in target and not target.startswith('#')}
    named = {ROOT / name for name in re.findall(r'\b(?:tools|configs|docs)/[\w/]+\.(?:py|md|sh)\b', text)}
    missing = [str(path.relative_to(ROOT)) for path in sorted(links | named) if not path.exists()]
    assert missing == []


def test_the_readmes_change_for_v1_0_mini_is_one_the_configuration_takes():
    from perception.cli.options import option_value
    from perception.core.config import read_config

    words = re.search(
        r'`--cfg-options (test_dataloader\.dataset\.version=.*?)`', (ROOT / 'README.md').read_text(),
        re.DOTALL)
    options = dict(word.split('=') for word in words.group(1).split())
    config = read_config(
        ROOT / 'configs' / 'nuscenes/camera_lidar.py',
        {k: option_value(v) for k, v in options.items()})
    assert config.test_dataloader.dataset.version == config.test_evaluator.version == 'v1.0-mini'
    assert config.test_dataloader.dataset.split == config.test_evaluator.split == 'mini_val'
