"""The doctor: gaps are named with a next step, required ones decide the exit code, large tables are only
sampled."""
from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from perception import doctor
from perception.datasets.reading.infos import write_index
from perception.doctor import (
    Finding,
    as_json,
    as_text,
    check_package,
    check_python,
    dataset,
    exit_code,
    machine,
)
from perception.doctor.packages import Package

TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'doctor.py'
GIB = 1024**3


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.name: f for f in findings}


# -------------------------------------------------------------------- software

@pytest.mark.parametrize(
    ('version', 'state'), [((3, 9), 'broken'), ((3, 10), 'ok'), ((3, 12), 'ok'), ((3, 13), 'broken')]
)
def test_python_range(version: tuple, state: str) -> None:
    found = check_python(version)
    assert found.state == state and found.required and bool(found.next_step) == (state == 'broken')


def test_package_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'loads_well.py').write_text("__version__ = '1.2.3'\n")
    (tmp_path / 'loads_badly.py').write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    well = check_package(Package('loads_well', 'loads-well', True, 'a test', 'step'))
    assert well.state == 'ok' and '1.2.3' in well.detail and well.next_step == ''
    badly = check_package(Package('loads_badly', 'loads-badly', True, 'a test', 'step'))
    assert badly.state == 'broken' and 'torchvision::nms' in badly.detail and badly.next_step == 'step'
    absent = check_package(Package('not_there_at_all', 'not-there', False, 'a test', 'step'))
    assert absent.state == 'absent' and absent.next_step == 'step'


def test_this_environment_has_what_is_required() -> None:
    findings = doctor.check_software()
    assert exit_code(findings) == 0
    assert {
        'torch', 'mmengine', 'nuscenes-devkit', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'mmcv',
        'spconv', 'rerun-sdk'} <= set(by_name(findings))


def test_every_gap_has_a_next_step_and_states_are_known() -> None:
    for f in doctor.check_software() + doctor.check_hardware(Path.cwd()):
        assert f.state in doctor.STATES and bool(f.next_step) == (f.state != 'ok')


# -------------------------------------------------------------------- hardware

def with_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    monkeypatch.setattr(machine, 'read_system_file', lambda path: files.get(path, ''))


def test_cores_are_cut_by_a_containers_quota(monkeypatch) -> None:
    monkeypatch.setattr(machine.os, 'sched_getaffinity', lambda pid: set(range(8)), raising=False)
    with_files(monkeypatch, {'/sys/fs/cgroup/cpu.max': '150000 100000\n'})
    assert machine.usable_cores() == 1.5
    with_files(monkeypatch, {'/sys/fs/cgroup/cpu.max': 'max 100000\n'})
    assert machine.usable_cores() == 8
    with_files(monkeypatch, {})
    assert machine.usable_cores() == 8


def test_memory_is_cut_by_a_containers_limit(monkeypatch) -> None:
    meminfo = f'MemTotal:       {16 * GIB // 1024} kB\nMemFree: 12 kB\n'
    with_files(monkeypatch, {'/proc/meminfo': meminfo, '/sys/fs/cgroup/memory.max': 'max'})
    assert machine.memory_bytes() == 16 * GIB
    with_files(monkeypatch, {'/proc/meminfo': meminfo, '/sys/fs/cgroup/memory.max': str(4 * GIB)})
    assert machine.memory_bytes() == 4 * GIB
    assert by_name(doctor.check_hardware(Path.cwd()))['memory'].state == 'partly'


def test_cpu_flags(monkeypatch) -> None:
    with_files(monkeypatch, {'/proc/cpuinfo': 'processor : 0\nflags\t\t: fpu avx2 amx_bf16 avx512_bf16x\n'})
    assert machine.cpu_flags() == ['amx_bf16', 'avx2']


# -------------------------------------------------------------------- data

def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def index_of(tokens: list[str], unfinished: list[str]) -> dict:
    """An index of infos with one scene, or none."""
    scene = {'location': 'boston-seaport', 'tokens': tokens, 'has_map': False, 'annotated': True}
    return {
        'version': 'v1.0-mini', 'lidar_sweeps': 0, 'radar_sweeps': 0, 'splits': {}, 'class_counts': {},
        'left_out': {}, 'scenes': {'scene-1': scene} if tokens else {}, 'unfinished': unfinished}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two scenes in one city; every second camera picture and all sweeps are absent."""
    folder = tmp_path / 'root'
    for name in dataset.TABLES:
        write_json(folder / 'v1.0-mini' / f'{name}.json', [])
    write_json(folder / 'v1.0-mini' / 'scene.json', [{'name': 'scene-1'}, {'name': 'scene-2'}])
    write_json(folder / 'v1.0-mini' / 'sample.json', [{}] * 4)
    write_json(folder / 'v1.0-mini' / 'log.json', [{'location': 'boston-seaport'}])
    write_json(folder / 'v1.0-mini' / 'map.json', [{'filename': 'maps/a.png'}])
    names = [f'samples/CAM_FRONT/{i}.jpg' for i in range(10)] + [
        f'sweeps/LIDAR_TOP/{i}.pcd.bin' for i in range(10)
    ]
    write_json(
        folder / 'v1.0-mini' / 'sample_data.json',
        [{'token': str(i), 'filename': n} for i, n in enumerate(names)])
    (folder / 'samples' / 'CAM_FRONT').mkdir(parents=True)
    for name in names[:10:2]:
        (folder / name).write_bytes(b'x')
    return folder


def test_a_root_with_gaps(root: Path) -> None:
    findings = dataset.check_root(root, 'v1.0-mini')
    found = by_name(findings)
    assert {name: f.state for name, f in found.items()} == {
        'tables': 'ok', 'samples/CAM_FRONT': 'partly', 'sweeps/LIDAR_TOP': 'absent', 'map pictures': 'absent',
        'map expansion': 'absent', 'can_bus': 'absent', 'lidarseg': 'absent', 'occupancy': 'absent',
        'infos': 'absent'}
    assert '5 of 10' in found['samples/CAM_FRONT'].detail
    assert '2 scenes, 4 key frames' in found['tables'].detail
    assert all(f.next_step for f in findings if f.state != 'ok') and exit_code(findings) == 0
    assert (
        found['infos'].next_step == f'python tools/create_data.py nuscenes --root {root} --version v1.0-mini'
    )


def test_a_root_that_is_whole(root: Path) -> None:
    for name in (
        'maps/a.png', 'maps/expansion/boston-seaport.json', 'lidarseg/v1.0-mini/1_lidarseg.bin',
        *(f'can_bus/scene-{i}_pose.json' for i in (1, 2)), *(f'gts/scene-{i}/t/labels.npz' for i in (1, 2)),
        *(f'samples/CAM_FRONT/{i}.jpg' for i in range(10)),
        *(f'sweeps/LIDAR_TOP/{i}.pcd.bin' for i in range(10))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'x')
    write_json(root / 'v1.0-mini' / 'lidarseg.json', [{'filename': 'lidarseg/v1.0-mini/1_lidarseg.bin'}])
    (root / 'infos' / 'v1.0-mini').mkdir(parents=True)
    write_index(root / 'infos' / 'v1.0-mini', index_of(['a', 'b'], []))
    findings = dataset.check_root(root)
    assert {f.state for f in findings} == {'ok'} and not any(f.next_step for f in findings)
    assert '1 scenes, 2 frames' in by_name(findings)['infos'].detail


def test_unfinished_and_damaged_infos(root: Path) -> None:
    folder = root / 'infos' / 'v1.0-mini'
    folder.mkdir(parents=True)
    write_index(folder, index_of([], ['scene-2']))
    assert '1 scenes not made yet' in by_name(dataset.check_root(root))['infos'].detail
    (folder / 'index.json').write_text('{')
    assert by_name(dataset.check_root(root))['infos'].state == 'broken'


def test_occupancy_of_single_frames(root: Path) -> None:
    (root / 'occupancy' / 'token').mkdir(parents=True)
    (root / 'occupancy' / 'token' / 'labels.npz').write_bytes(b'x')
    found = by_name(dataset.check_root(root))['occupancy']
    assert found.state == 'partly' and '1 frames' in found.detail


def test_no_folder_no_version_no_table(tmp_path: Path, root: Path) -> None:
    absent = dataset.check_root(tmp_path / 'nowhere')
    assert absent[0].state == 'absent' and 'make_world' in absent[0].next_step and exit_code(absent) == 1
    other = dataset.check_root(root, 'v1.0-trainval')
    assert 'versions found: v1.0-mini' in other[0].detail and exit_code(other) == 1
    assert other[0].next_step == 'use --version v1.0-mini'
    (root / 'v1.0-mini' / 'ego_pose.json').unlink()
    broken = dataset.check_root(root)
    assert len(broken) == 1 and 'ego_pose' in broken[0].detail and exit_code(broken) == 1


def test_a_damaged_table(root: Path) -> None:
    (root / 'v1.0-mini' / 'scene.json').write_text('[{')
    found = dataset.check_root(root)
    assert found[0].state == 'broken' and 'not JSON' in found[0].detail and exit_code(found) == 1


@pytest.mark.parametrize(('table', 'rows', 'part'), [
    ('map', [3], 'map pictures'), ('log', [{}], 'map expansion'), ('scene', ['a', 'b'], 'can_bus')])
def test_rows_of_another_form_are_a_finding(root: Path, table: str, rows: list, part: str) -> None:
    (root / 'v1.0-mini' / f'{table}.json').write_text(json.dumps(rows))
    found = {finding.name: finding for finding in doctor.check_root(root, 'v1.0-mini')}
    assert found[part].state == 'broken' and 'rows of another form' in found[part].detail


def test_large_tables_are_sampled_evenly(root: Path, monkeypatch) -> None:
    path = root / 'v1.0-mini' / 'sample_data.json'
    names = [f'sweeps/LIDAR_TOP/{i:06d}.pcd.bin' for i in range(5000)]
    write_json(path, [{'token': str(i), 'filename': n} for i, n in enumerate(names)])
    assert dataset.sampled_files(path) == names  # small enough to read whole
    monkeypatch.setattr(dataset, 'SCAN_ALL_BYTES', 1000)
    sampled = dataset.sampled_files(path, 100)
    assert 95 <= len(sampled) <= 100 and set(sampled) <= set(names)
    positions = [names.index(n) for n in sampled]
    assert positions == sorted(positions) and positions[0] < 60 and positions[-1] > 4900


# -------------------------------------------------------------------- reporting

FINDINGS = [Finding('software', 'torch', 'ok', '2.13', required=True),
            Finding('data', 'tables', 'broken', 'absent: scene', 'unpack again', required=True),
            Finding('data', 'can_bus', 'absent', '0 of 2', 'unpack it')]


def test_text_and_json() -> None:
    text = as_text(FINDINGS)
    assert 'BROKEN  tables' in text and '-> unpack again' in text and 'Required and missing: tables' in text
    assert 'Everything required is there.' in as_text(FINDINGS[:1])
    assert json.loads(as_json(FINDINGS))['exit_code'] == 1
    assert json.loads(as_json(FINDINGS))['findings'][2]['next_step'] == 'unpack it'


@pytest.mark.parametrize(('chosen', 'code'), [(FINDINGS, 1), (FINDINGS[:1], 0), (FINDINGS[2:], 0), ([], 0)])
def test_only_required_gaps_fail(chosen: list, code: int) -> None:
    assert exit_code(chosen) == code


def test_the_command(root: Path, monkeypatch, capsys) -> None:
    spec = importlib.util.spec_from_file_location('doctor_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', ['doctor.py', '--root', str(root), '--json'])
    assert tool.main() == 0
    found = {f['name']: f for f in json.loads(capsys.readouterr().out)['findings']}
    assert found['torch']['state'] == 'ok' and found['samples/CAM_FRONT']['state'] == 'partly'
    monkeypatch.setattr(sys, 'argv', ['doctor.py', '--root', str(root / 'nowhere')])
    assert tool.main() == 1
    assert 'Required and missing' in capsys.readouterr().out


def test_real_root(real_frames: Path) -> None:
    findings = dataset.check_root(real_frames, 'v1.0-mini')
    found = by_name(findings)
    assert exit_code(findings) == 0 and '3 scenes, 82 key frames' in found['tables'].detail
    assert '4 of 82' in found['samples/CAM_FRONT'].detail and found['samples/RADAR_FRONT'].state == 'ok'
    assert found['map expansion'].state == 'absent' and found['occupancy'].state == 'partly'
    assert '2 of 3' in found['can_bus'].detail
