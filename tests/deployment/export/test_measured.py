"""What is written into a sidecar as measured is believable, comes back as it was, and nonsense is refused on
reading."""
from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from perception.deployment.export.sidecar import Sidecar
from tests.deployment.conftest import Exported, edit_sidecar

ROW = {
    'scores': {'detection': 0.29, 'lanes': math.nan}, 'samples': 60, 'network_ms_p50': 91.0,
    'network_ms_p90': 99.5, 'memory_mb': 700.0, 'file_mb': 12.0, 'warm_up_s': 3.0,
    'machine': 'a processor with 2 cores', 'date': '2026-11-22'}


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / 'export'))


def test_rows_are_added_and_read_again(copied: Path):
    Sidecar.read(copied).with_rows({'openvino bf16': ROW, 'tensorrt fp16': {'reason': 'no GPU'}}).write(
        copied
    )
    Sidecar.read(copied).with_rows(
        {'openvino fp32': ROW, 'openvino bf16': {**ROW, 'network_ms_p50': 80.0}}
    ).write(copied)
    found = Sidecar.read(copied).measured['engines']
    assert list(found) == ['openvino bf16', 'openvino fp32']
    assert found['openvino bf16']['network_ms_p50'] == 80.0
    assert found['openvino fp32']['scores'] == {'detection': 0.29, 'lanes': None}
    assert 'warm_up_s' not in found['openvino fp32'] and found['openvino fp32']['date'] == '2026-11-22'


@pytest.mark.parametrize(
    ('key', 'change', 'expected'),
    [
        ('ncnn fp32', {}, r"\['ncnn fp32'\]: expected one of"),
        ('openvino', {}, 'a space, one of'),
        ('openvino fp32', {'network_ms_p50': -1.0}, 'network_ms_p50: expected a number above 0, found -1.0'),
        ('openvino fp32', {'network_ms_p90': 'fast'}, "found 'fast'"),
        ('openvino fp32', {'file_mb': True}, 'found True'),
        (
            'openvino fp32', {'scores': {'lanes': 1.5}},
            'scores.lanes: expected a score from 0 to 1 or null, found 1.5'),
        ('openvino fp32', {'machine': ''}, 'machine: expected the name'),
        ('openvino fp32', {'date': 'today'}, "found 'today'"),
        ('openvino fp32', {'date': None}, 'date: expected a date'),
    ],
)
def test_nonsense_is_refused_when_written_and_when_read(copied: Path, key: str, change: dict, expected: str):
    row = {
        name: value
        for name, value in {**ROW, 'scores': {'detection': 0.29}, **change}.items()
        if name != 'warm_up_s'
    }
    with pytest.raises(ValueError, match=expected):
        Sidecar.read(copied).with_rows({key: row})
    edit_sidecar(copied, lambda content: content.update(measured={'engines': {key: row}}))
    with pytest.raises(ValueError, match=f'sidecar.json: measured.engines.*{expected}'):
        Sidecar.read(copied)


@pytest.mark.parametrize('measured', [[1], {'engines': [1]}, {'engines': {'torch fp32': 3}}])
def test_another_shape_is_refused(copied: Path, measured: object):
    edit_sidecar(copied, lambda content: content.update(measured=measured))
    with pytest.raises(ValueError, match='measured.*: expected an object'):
        Sidecar.read(copied)
