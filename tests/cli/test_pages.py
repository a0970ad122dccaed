"""Every command of every page, run to its end on a tiny world; where that takes minutes, its arguments."""
from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import pytest

from perception.cli.commands import VERBS, verb_module
from perception.cli.options import option_value
from perception.core.config import read_config
from perception.core.rig.file import DEFAULT_RIG_PATH
from perception.deployment.engines.choices import parse_engines
from tests.cli.conftest import Checkout
from tests.cli.pages import PAGES, ROOT, Command, fences, page_commands

COMMANDS = page_commands()
FLAGSHIP = 'configs/nuscenes/camera_lidar.py work_dirs/nuscenes/camera_lidar/epoch_20.pth'
RESULTS = 'work_dirs/nuscenes/camera_lidar/results'

LONG = {
    r'make_world': 'a scene takes ten seconds: tests/world',
    r'train\.py configs/world': 'as the README\'s training; its options are read below',
    r'--corruption (all|robobev|memory)': 'many rows: tests/evaluation/robustness',
    r'export\.py .*--(compare|tasks)': 'as without it, ten seconds each: tests/deployment/measure',
    r'--int8': 'a search over layers: tests/deployment/int8',
    r'--measure|engine_table': 'a process a row: tests/deployment/measure/test_table.py',
    r'test\.py .*--precision bf16': 'as the README\'s in fp32',
    r'benchmark\.py CONFIG|--random-frames': 'as the README\'s, in more engines: tests/deployment/measure',
    r'benchmark_evaluation': 'a split of 6019 samples: tests/evaluation/timing',
    r'training_page\.py .*--watch': 'until Ctrl-C: tests/training/test_page.py',
    r'tools/fuzz': 'minutes: tests/fuzz',
    r'create_data\.py paste': 'all objects of a world: tests/datasets/paste, tests/training/test_paste.py',
    r'import_weights': 'it needs a published checkpoint: tests/training/test_published.py',
    r'prune_model': 'a forward for every group of channels: tests/training/test_pruning.py',
    r'slimmable': 'it needs a training of a slimmable model: tests/training/test_slim.py',
    r'import_drive|export_drive|v1\.0-drive': 'it needs a recording and its readers: tests/recordings',
    r'import_rig': 'it needs the calibration of a car: tests/core/rig/test_import.py',
    r'pseudo_label': 'predictions of a whole split: tests/cli/test_pseudo_label.py',
    r'merge_models': 'it needs trainings from one start: tests/training/test_merging.py',
    r'compare_systems': 'trainings in processes of their own: tests/training/test_comparison.py'}
"""{commands that take long on the smallest of inputs: why, and which test runs that code}"""

SLOW = r'tools/(benchmark|visualize)\.py|test\.py .*--engine|evaluate\.py .*--scorecard'
"""Commands of ten seconds and more, run by `make test-full`."""

HERE = {
    'CONFIG': 'configs/tiny.py', 'CHECKPOINT': 'work_dirs/demo/epoch_2.pth', 'DIR': 'work_dirs/export',
    'RESULTS': RESULTS, 'OTHER': RESULTS, 'ROOT': 'data/demo_world', 'run1.json': 'metrics.json',
    'run2.json': 'metrics.json', 'pytorch': 'none', 'rig.json': str(DEFAULT_RIG_PATH),
    'my_car.json': str(DEFAULT_RIG_PATH), 'WORK_DIR': 'work_dirs/nuscenes/camera_lidar'}
"""What stands for a page's word in the small checkout."""

FEWER = {
    'create_data': '--workers 1', 'corruption_gallery': '--index 1 --width 48', 'visualize': '--frames 0:1',
    r'--corruption fog': '--limit 1', 'task_affinity': '--batches 1', 'profile_step': '--steps 1',
    'benchmark': '--quick --runs 1 --engine onnxruntime:fp32'}
"""Words that go behind those of some commands, so that they are quick."""

TEST = f'tools/test.py {FLAGSHIP}'
EVALUATE = 'tools/evaluate.py RESULTS --root ROOT --version v1.0-trainval --split val --out metrics.json'
EXPORT = 'tools/export.py CONFIG CHECKPOINT --out DIR'
TRACK = 'tools/track.py RESULTS --root ROOT --version v1.0-trainval --split val --out tracks.json'
NEEDS = {
    'tracks.json --root': TRACK,
    '--export work_dirs/export': EXPORT,
    RESULTS: TEST, 'metrics.json --scorecard': EVALUATE,
    'import nuscenes_infos_val.pkl': 'tools/mmdet3d_infos.py export data/nuscenes/infos/v1.0-trainval '
                                     '--split val --out nuscenes_infos_val.pkl'}
"""{words that name what another command leaves behind: that command, which a page has too}"""


def name_of(command: Command) -> str:
    return f'{command.page}: {command.text.removeprefix("python tools/").replace("/", ".")[:60]}'


def is_long(command: Command) -> bool:
    return any(re.search(pattern, command.text) for pattern in LONG)


def find(text: str) -> Command:
    return next(command for command in COMMANDS if command.text == f'python {text}')


def run(checkout: Checkout, command: Command) -> None:
    """Run what a command needs, then the command itself, in the small checkout."""
    words = [HERE.get(word, word) for word in command.words]
    for pattern, more in FEWER.items():
        words += more.split() if re.search(pattern, command.text) else []

    for named, text in NEEDS.items():
        if named in ' '.join(words):
            run(checkout, find(text))
    checkout.run(command.verb, *words)


@pytest.mark.parametrize('command', [one for one in COMMANDS if not is_long(one)], ids=name_of)
def test_a_command_runs_to_its_end(command, request) -> None:
    if re.search(SLOW, command.text) and not os.environ.get('PERCEPTION_PAGES'):
        pytest.skip('takes over ten seconds: make test-full, or set PERCEPTION_PAGES=1')
    checkout = request.getfixturevalue('checkout')
    run(checkout, command)
    assert command.verb in {key.split()[0] for key in checkout.done}


@pytest.mark.parametrize('command', [one for one in COMMANDS if one.verb in VERBS], ids=name_of)
def test_a_command_is_taken_by_the_shipped_configuration(command) -> None:
    """The small checkout's configurations are tiny: the shipped ones exist and have the same options."""
    parser = argparse.ArgumentParser()
    module = verb_module(command.verb)
    module.add_arguments(parser)
    args = parser.parse_args(command.words)
    if hasattr(module, 'check_arguments'):
        module.check_arguments(parser, args)

    if getattr(args, 'config', None) not in (None, 'CONFIG'):
        read_config(ROOT / args.config, args.cfg_options)
    if command.verb == 'benchmark' and args.engine:
        assert parse_engines(args.engine)


def test_there_are_commands_to_run_and_no_exception_is_stale() -> None:
    assert sum(not is_long(command) for command in COMMANDS) == 43
    assert [p for p in LONG if not any(re.search(p, command.text) for command in COMMANDS)] == []


def test_results_are_scored_alike_without_the_model(checkout) -> None:
    """On infos without earlier sweeps, as the demo's are."""
    run(checkout, find(TEST))
    run(checkout, find(EVALUATE))
    tested = json.loads((checkout.folder / RESULTS).with_name('metrics.json').read_text())
    scored = json.loads((checkout.folder / 'metrics.json').read_text())['metrics']

    assert {'detection/NDS', 'map/mIoU', 'lanes/mAP'} <= set(tested)
    assert {name: scored[name] for name in tested} == pytest.approx(tested, abs=1e-3, nan_ok=True)


def test_the_python_of_the_page_on_data_runs(checkout, monkeypatch) -> None:
    """The README's is run by tests/test_api.py."""
    monkeypatch.chdir(checkout.folder)
    example, = (code for code in fences(ROOT / 'docs' / 'data.md', 'python') if 'import' in code)
    names: dict[str, object] = {}
    exec(compile(example, 'data.md', 'exec'), names)
    assert names['sample'].camera.images_NHW3.shape == (6, 256, 704, 3)


MEASUREMENTS = sorted((ROOT / 'docs' / 'benchmarks').glob('*.md'))


@pytest.mark.parametrize(
    'page', [*PAGES, *MEASUREMENTS, ROOT / 'examples' / 'cpp' / 'README.md'],
    ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page) -> None:
    text = page.read_text(encoding='utf-8')
    links = {(page.parent / target.split('#')[0]).resolve() for target in re.findall(r'\]\(([^)\s]+)\)', text)
             if '://' not in target and not target.startswith('#')}
    files = re.findall(r'\b(?:tools|configs|docs|perception|tests)/[\w/]+\.(?:py|md|sh)\b', text)
    named = {ROOT / name for name in files}
    missing = [str(path.relative_to(ROOT)) for path in sorted(links | named) if not path.exists()]
    assert missing == []

    sections = re.findall(r'\]\(([^)\s#:]*)#([^)\s]+)\)', text)
    places = [(page.parent / file if file else page, name) for file, name in sections]
    assert [f'{place}#{name}' for place, name in places if name not in headings(place)] == []

    targets = re.findall(r'(?:`|^)make ([a-z][\w-]*)', text, re.MULTILINE)
    phony = re.search(r'^.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE).group(1).split()
    assert set(targets) <= set(phony)


def headings(page: Path) -> set[str]:
    """The names by which a link reaches the headings of a page."""
    titles = re.findall(r'^#+ (.+)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def test_the_readmes_change_for_v1_0_mini_is_one_the_configuration_takes() -> None:
    words = re.search(
        r'`--cfg-options (test_dataloader\.dataset\.version=.*?)`', (ROOT / 'README.md').read_text(),
        re.DOTALL)
    options = dict(word.split('=') for word in words.group(1).split())
    config = read_config(
        ROOT / 'configs' / 'nuscenes/camera_lidar.py', {k: option_value(v) for k, v in options.items()})
    assert config.test_dataloader.dataset.version == config.test_evaluator.version == 'v1.0-mini'
    assert config.test_dataloader.dataset.split == config.test_evaluator.split == 'mini_val'
