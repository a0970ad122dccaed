"""The whole line by one command, `make demo`: a look at the shipped model, then training to engines.

The look comes first: a few scenes are made that no training saw, and the weights that come with the
repository are scored and drawn on them. Then a larger world, and a variant of the shipped model with another
fuser: its scores before its training, training, test, export, engines, pictures.

It runs the checkout's own commands on its own configuration, so it is no verb of an installed package.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from ..core.reading import read_json

CONFIG, WORLD, WORK = 'configs/demo.py', Path('data/demo_world'), Path('work_dirs/demo')
CHECKPOINT = WORK / 'epoch_2.pth'
# the shipped model, and the scenes that it is shown first
SHIPPED, WEIGHTS = 'configs/world/long/2_drives.py', 'data/weights/world_long.pth'
LOOK_WORLD, LOOK = Path('data/demo_look'), WORK / 'look'
LOOK_AT = ['--cfg-options', f'test_dataloader.dataset.root={LOOK_WORLD}', 'test_dataloader.num_workers=1']
INFOS = ['tools/create_data.py', 'nuscenes', '--version', 'v1.0-trainval', '--workers', '2']
MAKE = ['tools/make_world.py', '--image-size', '225x400', '--workers', '2', '--lidar-sweeps', '4']
STEPS = {
    'scenes': [
        *MAKE, '--out', str(LOOK_WORLD), '--scenes', '3', '--split', 'val', '--key-frames', '8', '--seed',
        '7', '--radar-sweeps', '5'],
    'labels': [*INFOS, '--root', str(LOOK_WORLD), '--lidar-sweeps', '4', '--radar-sweeps', '5'],
    'look': [
        'tools/test.py', SHIPPED, WEIGHTS, '--work-dir', str(LOOK), '--out', str(LOOK / 'metrics.json'),
        *LOOK_AT],
    'show': [
        'tools/visualize.py', SHIPPED, WEIGHTS, '--out', str(LOOK / 'pictures'), '--frames', '0:24:4',
        *LOOK_AT],
    'world': [
        *MAKE, '--out', str(WORLD), '--scenes', '112', '--key-frames', '4', '--seed', '0', '--no-radars'],
    'infos': [*INFOS, '--root', str(WORLD), '--lidar-sweeps', '4', '--radar-sweeps', '0'],
    # the fuser starts from nothing: what the training brings is told against this
    'before': [
        'tools/test.py', CONFIG, '--start', '--work-dir', str(WORK / 'before'), '--out',
        str(WORK / 'before.json'), '--no-results'],
    # two processes of one thread are faster than one process of two threads: most of a step's operations are
    # small
    'train': [
        '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', 'tools/train.py', CONFIG,
        '--launcher', 'pytorch', '--work-dir', str(WORK), '--resume'],
    'test': [
        'tools/test.py', CONFIG, str(CHECKPOINT), '--work-dir', str(WORK), '--out',
        str(WORK / 'metrics.json')],
    'export': ['tools/export.py', CONFIG, str(CHECKPOINT), '--out', str(WORK / 'export')],
    'engines': [
        'tools/benchmark.py', CONFIG, str(CHECKPOINT), '--export', str(WORK / 'export'), '--runs', '10',
        '--quick', '--out', str(WORK / 'engines.json')],
    'draw': [
        'tools/visualize.py', CONFIG, str(CHECKPOINT), '--out', str(WORK / 'pictures'), '--frames',
        '0:75:12'],
}
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': str(max(1, (os.cpu_count() or 2) // 2))}
DONE = {
    'look': LOOK / 'metrics.json', 'show': LOOK / 'pictures' / 'report.html',
    'before': WORK / 'before.json', 'train': CHECKPOINT, 'test': WORK / 'metrics.json',
    'export': WORK / 'export' / 'sidecar.json', 'engines': WORK / 'engines.json'}


def run_step(name: str, log: Path, root: Path) -> float:
    """Run one tool, its output into the log; a step whose result is there already is left out.

    A failure ends the demo with the tool's last lines.

    Args:
        name: one of `STEPS`.
        log: gets everything that the tool prints.
        root: folder of the checkout.

    Returns:
        Seconds it took, 0 where it was left out.
    """
    if name in DONE and DONE[name].is_file():
        print(f'    {name:<8} already done ({DONE[name]})', flush=True)
        return 0.0

    command = [sys.executable, *STEPS[name]]
    print(f'==> {name:<8} python {" ".join(command[1:])}', flush=True)
    began = time.perf_counter()
    with open(log, 'a', encoding='utf-8') as file:
        file.write(f'\n===== {" ".join(command[1:])}\n')
        file.flush()
        process = subprocess.Popen(
            command, cwd=root, env=ENVIRONMENT if name == 'train' else None, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        tail: list[str] = []
        for line in process.stdout:
            file.write(line)
            tail = [*tail[-19:], line]
            shown = progress(line)
            if shown is not None:
                print(f'    {shown}', flush=True)

    if process.wait():
        sys.exit(f'{name} failed (log: {log}):\n{"".join(tail)}')
    seconds = time.perf_counter() - began
    print(f'    {name:<8} {seconds:.0f} s', flush=True)
    return seconds


def progress(line: str) -> str | None:
    """What a line of a tool's output says about how far it is, short; None where it says nothing.

    Of a line about training: epoch and step, the loss, its sum by task, and the time left.
    """
    if 'per key frame,' in line:
        return line.strip()[:100]
    step = re.search(r'Epoch\(train\) +\[(\d+)\]\[ *(\d+/\d+)\].* eta: (\S+).* loss: (\S+)', line)
    if step is None:
        return None

    by_task: dict[str, float] = {}
    for task, value in re.findall(r' loss/(\w+)/\S+: (\S+)', line):
        by_task[task] = by_task.get(task, 0.0) + float(value)
    epoch, count, left, total = step.groups()
    losses = {'total': float(total), **by_task}
    words = [f'{name.removesuffix("_segmentation")} {value:.2f}' for name, value in losses.items()]
    return f'epoch {epoch} step {count:>7}  loss: {"  ".join(words)}  left {left}'


def summary(seconds: dict[str, float]) -> dict:
    """Everything the demo measured, as plain values."""
    metrics = read_json(WORK / 'metrics.json')
    engines = read_json(WORK / 'engines.json')
    pictures = sorted(str(path) for path in (WORK / 'pictures').glob('*.png'))
    return {
        'seconds': {name: round(value, 1) for name, value in seconds.items()},
        'total_seconds': round(sum(seconds.values()), 1),
        'look': read_json(DONE['look']), 'before': read_json(DONE['before']), 'scores': metrics,
        'engines': engines['engines'], 'machine': engines.get('machine'), 'pictures': pictures,
        'report': str(WORK / 'pictures' / 'report.html')}


def main(root: Path) -> int:
    """Run the steps in a checkout, print the table, write summary.json; gives the exit status."""
    argparse.ArgumentParser(
        description='Look at the shipped model, then run the whole line on a variant of it: world, training, '
        'test, export, engines, pictures. Steps whose result is there already are left out; `make clean` '
        f'removes all of it. Writes {WORK}/summary.json.'
    ).parse_args()
    os.chdir(root)
    WORK.mkdir(parents=True, exist_ok=True)

    times = WORK / 'seconds.json'
    seconds = read_json(times) if times.is_file() else {}
    for name in STEPS:
        seconds[name] = run_step(name, WORK / 'demo.log', root) or seconds.get(name, 0.0)
        times.write_text(json.dumps(seconds), encoding='utf-8')
        if name == 'show':
            print_look()

    found = summary(seconds)
    (WORK / 'summary.json').write_text(json.dumps(found, indent=1), encoding='utf-8')
    print_summary(found, seconds)
    return 0


def print_look() -> None:
    """What the shipped weights reach on the scenes that were made first, and where they are drawn."""
    print(f'\nthe shipped weights ({WEIGHTS}) on scenes that they never saw')
    print_scores('', [read_json(DONE['look'])])
    print(f'pictures: {DONE["show"]}\n', flush=True)


def print_scores(title: str, columns: list[dict]) -> None:
    """The first score of every task, one column or several."""
    from ..registry import headline
    if title:
        print(f'  {"":<34}{title}')
    for name in headline().values():
        if name in columns[0]:
            print(f'  {name:<34}' + '  '.join(f'{column[name]:>8.3f}' for column in columns))


def print_summary(found: dict, seconds: dict[str, float]) -> None:
    """Scores, engines, seconds and where the pictures are."""
    print(f'\n{CONFIG}, another fuser, on held-out scenes in a city that it never saw')
    print_scores('  before     after its training', [found['before'], found['scores']])

    print('engines, one frame, network alone')
    for row in found['engines']:
        print(f'  {row["engine"] + " " + row["precision"]:<34}{row["network_ms_p50"]:>8.1f} ms')

    print(f'seconds: {found["total_seconds"]:.0f} ' + ', '.join(f'{n} {s:.0f}' for n, s in seconds.items()))
    print(f'pictures: {found["report"]} and {len(found["pictures"])} PNG files beside it')
    print(f'summary: {WORK / "summary.json"}')
