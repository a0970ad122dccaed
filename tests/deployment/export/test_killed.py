"""An export that is killed at any moment leaves none or a whole one; the next one is the same to the byte.

Takes minutes: set PERCEPTION_ENDURANCE.
"""
from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perception.deployment.export.sidecar import Sidecar

EXPORT = """
import sys
from perception.deployment.export.network import export_network
from tests.helpers import make_batch, make_model
model, batch = make_model(('lidar',)).eval(), make_batch(1, points=200)
print('begins', flush=True)
export_network(model, batch, sys.argv[1], {'type': 'MultiTaskPerception'})
"""


def start(folder: Path) -> subprocess.Popen:
    """An export in a process of its own, just before its first step."""
    process = subprocess.Popen(
        [sys.executable, '-c', EXPORT, str(folder)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).resolve().parents[3])})
    assert process.stdout.readline() == 'begins\n'
    return process


@pytest.mark.skipif(
    not os.environ.get('PERCEPTION_ENDURANCE'), reason='takes minutes: set PERCEPTION_ENDURANCE=600')
def test_ten_kills_leave_no_half_export(tmp_path: Path):
    process, began = start(tmp_path / 'whole'), time.monotonic()
    assert process.wait() == 0
    lasted_s = time.monotonic() - began
    expected = contents(tmp_path / 'whole')
    assert list(expected) == ['network.onnx', 'sidecar.json']

    # an export stands there already, of other weights: it is never mixed with the new one
    folder, rng, states = tmp_path / 'killed', random.Random(0), []
    for _ in range(10):
        process = start(folder)
        time.sleep(rng.uniform(0, lasted_s))
        process.kill()
        process.wait()
        if (folder / 'sidecar.json').is_file():
            Sidecar.read(folder)
            assert {name: contents(folder)[name] for name in expected} == expected
        states.append(tuple(sorted(contents(folder))))

    assert start(folder).wait() == 0 and contents(folder) == expected
    print(f'{lasted_s:.1f} s', *states, sep='\n')


def contents(folder: Path) -> dict[str, bytes]:
    """{name: content} of the files of a folder; none where it does not exist."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob('*'))} | {
        path.name: path.read_bytes() for path in sorted(folder.glob('.*'))}
