"""The C++ example answers as the Python engine does and refuses bad input in words; built only where its
tools are."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from perception.deployment.engines import open_engine
from perception.deployment.measure.compare import difference
from tests.deployment.conftest import Exported

SOURCE = Path(__file__).resolve().parents[3] / 'examples' / 'cpp'
COMPILERS = ('c++', 'g++', 'clang++')


def call(command: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)


@pytest.fixture(scope='module')
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built example; skips where something to build it with is missing."""
    if not shutil.which('cmake'):
        pytest.skip('needs cmake')
    if not (os.environ.get('CXX') or any(map(shutil.which, COMPILERS))):
        pytest.skip(f'needs a C++ compiler: one of {COMPILERS}, or CXX')
    if not os.environ.get('ONNXRUNTIME_ROOT'):
        pytest.skip(
            "needs ONNX Runtime's C/C++ package: set ONNXRUNTIME_ROOT to its folder (examples/cpp/README.md)"
        )
    build = tmp_path_factory.mktemp('cpp_build')
    configured = call(
        ['cmake', '-S', SOURCE, '-B', build, f'-DONNXRUNTIME_ROOT={os.environ["ONNXRUNTIME_ROOT"]}']
    )
    if configured.returncode and 'package configuration file provided by "nlohmann_json"' in ' '.join(
        configured.stderr.split()
    ):
        pytest.skip('needs nlohmann_json: apt install nlohmann-json3-dev, or set CMAKE_PREFIX_PATH')
    assert configured.returncode == 0, configured.stderr
    built = call(['cmake', '--build', build, '--config', 'Release'])
    assert built.returncode == 0, built.stdout + built.stderr
    return next(path for path in (build / 'run_network', *build.glob('*/run_network.exe')) if path.is_file())


@pytest.fixture
def inputs(exported: Exported, tmp_path: Path) -> dict[str, np.ndarray]:
    """Graph inputs, also written to `tmp_path/inputs`."""
    arrays = {
        name: value
        for name, value in exported.inputs().items()
        if name not in exported.sidecar.dropped_inputs
    }
    (tmp_path / 'inputs').mkdir()
    for name, value in arrays.items():
        np.save(tmp_path / 'inputs' / f'{name}.npy', value)
    return arrays


def refusal(program: Path, export: Path, folder: Path) -> str:
    """What the program says when it refuses; it must leave no outputs."""
    found = call([program, export, folder / 'inputs', folder / 'outputs'])
    assert found.returncode == 1, found.stderr
    assert not (folder / 'outputs').exists()
    return found.stderr


def test_it_answers_as_the_python_engine(
    program: Path, exported: Exported, inputs: dict[str, np.ndarray], tmp_path: Path
):
    found = call(
        [program, exported.folder, tmp_path / 'inputs', tmp_path / 'outputs', '--threads', 1, '--runs', 3]
    )
    assert found.returncode == 0, found.stderr
    p50, p90 = map(float, re.fullmatch(r'3 runs: p50 ([\d.]+) ms, p90 ([\d.]+) ms\n', found.stdout).groups())
    assert 0 < p50 <= p90
    expected = open_engine('onnxruntime', exported.folder, 'fp32', exported.model, threads=1).infer(inputs)
    assert sorted(path.name for path in (tmp_path / 'outputs').iterdir()) == sorted(
        f'{name}.npy' for name in expected
    )
    for name, value in expected.items():
        array = np.load(tmp_path / 'outputs' / f'{name}.npy')
        assert array.dtype == value.dtype
        assert difference(name, array, value).finite and difference(name, array, value).relative < 1e-5, name


def spoilt(value: np.ndarray, number: float) -> np.ndarray:
    """A copy with one value replaced."""
    copy = value.copy()
    copy.flat[7] = number
    return copy


@pytest.mark.parametrize(
    'name,change,words',
    [
        (
            'camera.images', lambda v: v[..., :96],
            r'shape: expected \(1, 6, 3, 64, 176\), found \(1, 6, 3, 64, 96\)'),
        ('camera.images', lambda v: spoilt(v, np.nan), 'value 7: expected a finite number, found nan'),
        ('camera.images', lambda v: spoilt(v, -np.inf), 'value 7: expected a finite number, found -inf'),
        (
            'camera.images', np.asfortranarray,
            r"fortran_order: expected \(False\), found .*'fortran_order': True"),
        ('camera.images', lambda v: v.astype(np.float64), r'descr: expected <f4 \(float32\), found <f8'),
        (
            'lidar.slot_map', lambda v: spoilt(v, 2201),
            'value 7: expected an index from 0 to 2200, found 2201'),
        ('lidar.slot_map', lambda v: spoilt(v, -1), 'value 7: expected an index from 0 to 2200, found -1'),
    ],
    ids=['shape', 'nan', 'infinite', 'fortran', 'dtype', 'index', 'negative'],
)
def test_a_bad_input_is_refused(
    program: Path,
    exported: Exported,
    inputs: dict[str, np.ndarray],
    tmp_path: Path,
    name: str,
    change: object,
    words: str,
):
    path = tmp_path / 'inputs' / f'{name}.npy'
    np.save(path, change(inputs[name]))
    assert re.search(re.escape(f'{path}: ') + words, refusal(program, exported.folder, tmp_path))


def test_a_missing_or_truncated_input_is_refused(
    program: Path, exported: Exported, inputs: dict, tmp_path: Path
):
    path = tmp_path / 'inputs' / 'camera.present.npy'
    path.write_bytes(path.read_bytes()[:-1])
    assert f'{path}: data: expected 1 bytes, found 0' in refusal(program, exported.folder, tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    assert f'{path}: header: expected 118 bytes, found the end of the file' in refusal(
        program, exported.folder, tmp_path
    )
    path.unlink()
    assert f'{path}: file: expected input camera.present, found no readable file' in refusal(
        program, exported.folder, tmp_path
    )


@pytest.mark.parametrize('change,words', [
    (dict(schema='something-else'), 'sidecar.json: schema: expected perception-engine, found something-else'),
    (dict(version=2), 'sidecar.json: version: expected 1, found 2'),
    (dict(inputs=None), 'sidecar.json: inputs: expected a list, found null'),
    (dict(outputs=[]), 'network.onnx: outputs: expected 0 of them, found ["detection.heatmap",'),
], ids=['schema', 'version', 'incomplete', 'network'])
def test_a_sidecar_that_does_not_fit_is_refused(
    program: Path, exported: Exported, inputs: dict, tmp_path: Path, change: dict, words: str
):
    export = shutil.copytree(exported.folder, tmp_path / 'export')
    content = json.loads((export / 'sidecar.json').read_text(encoding='utf-8'))
    (export / 'sidecar.json').write_text(json.dumps(content | change), encoding='utf-8')
    assert f'{export}{os.sep}{words}' in refusal(program, export, tmp_path)
