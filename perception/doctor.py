"""What is installed, what the machine can do, what of a dataset is there; and for each gap the one next step.

Nothing here changes anything. Imports are tried for real, since a package can be installed and still not
load.
"""
from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PYTHON_RANGE = ((3, 10), (3, 12))
STATES = ('ok', 'partly', 'absent', 'broken')
GIB = 1024**3

# module, distribution, required, what it is for, next step
PACKAGES = (
    ('numpy', 'numpy', True, 'arrays', 'make test (makes .venv with everything), or: pip install -e .'),
    ('torch', 'torch', True, 'the model', 'pip install torch (for GPUs: the build of your CUDA version)'),
    (
        'mmengine', 'mmengine', True, 'training loop, configurations, registries',
        'pip install mmengine==0.10.7'),
    (
        'cv2', 'opencv-python-headless', True, 'images and rasters',
        'pip install opencv-python-headless==4.11.0.86'),
    ('numba', 'numba', True, 'fast loops on the CPU', 'pip install numba'),
    ('scipy', 'scipy', True, 'matching', 'pip install scipy'),
    (
        'nuscenes', 'nuscenes-devkit', False, 'create_data and the official metrics',
        'pip install nuscenes-devkit==1.2.0'),
    ('shapely', 'shapely', False, 'map layers', 'pip install "shapely>=2,<2.1"'),
    ('onnx', 'onnx', False, 'export', 'pip install onnx'),
    ('onnxscript', 'onnxscript', False, 'export', 'pip install onnxscript'),
    ('onnxruntime', 'onnxruntime', False, 'engine: ONNX Runtime', 'pip install onnxruntime'),
    ('openvino', 'openvino', False, 'engine: OpenVINO, the fast one on CPUs', 'pip install openvino'),
    ('matplotlib', 'matplotlib', False, 'drawing', 'pip install matplotlib'),
)
EXTRAS = (
    ('mmcv', 'mmcv', '[mm]', 'compiled operators', 'make test-mm builds it in .venv-mm (13 minutes, once)'),
    (
        'mmdet3d', 'mmdet3d', '[mm]', 'backbones, necks and heads of OpenMMLab',
        'make test-mm builds it in .venv-mm'),
    ('spconv', 'spconv', '[sparse]', 'sparse convolution for the LiDAR', 'pip install -e ".[sparse]"'),
    (
        'tensorrt', 'tensorrt', '[tensorrt]', 'engine: TensorRT, needs an NVIDIA GPU',
        'pip install -e ".[tensorrt]"'),
    ('rerun', 'rerun-sdk', '[rerun]', 'tools/visualize.py --rerun', 'pip install -e ".[rerun]"'),
)
CPU_FLAGS = {'amx_bf16': 'AMX bf16 (fast bf16 engines)', 'avx512_bf16': 'AVX-512 bf16', 'avx2': 'AVX2'}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `state` is one of `STATES`; `next_step` is what to do about a gap, '' where
    nothing is to do.

    `required`: without it the work that was asked about cannot be done, and the doctor's exit code is 1.
    """

    area: str
    name: str
    state: str
    detail: str
    next_step: str = ''
    required: bool = False


# ----------------------------------------------------------------------------------------------------------
# the software

def check_python(version: tuple[int, int] | None = None) -> Finding:
    """The interpreter's version against the supported range."""
    version = version or sys.version_info[:2]
    low, high = PYTHON_RANGE
    fits = low <= tuple(version) <= high
    step = (
        ''
        if fits
        else f'use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}: make test PYTHON=python{high[0]}.{high[1]}'
    )
    return Finding(
        'software', 'python', 'ok' if fits else 'broken', '.'.join(map(str, version)), step, required=True
    )


def check_package(module: str, distribution: str, required: bool, purpose: str, next_step: str) -> Finding:
    """Whether a package is installed and loads."""
    if importlib.util.find_spec(module) is None:
        return Finding('software', distribution, 'absent', f'for {purpose}', next_step, required)
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # a package can fail to load in any way
        return Finding(
            'software', distribution, 'broken', f'does not load: {type(error).__name__}: {str(error)[:160]}',
            next_step, required)
    return Finding(
        'software', distribution, 'ok', f'{_version(distribution, loaded)}, for {purpose}', '', required
    )


def _version(distribution: str, module: object) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(module, '__version__', 'unknown version'))


def check_software() -> list[Finding]:
    """Python, the packages of the default set-up, the extras."""
    extras = [check_package(module, distribution, False, f'{extra} {purpose}', step)
              for module, distribution, extra, purpose, step in EXTRAS]
    return [check_python(), *(check_package(*row) for row in PACKAGES), *extras]


# ----------------------------------------------------------------------------------------------------------
# the hardware

def usable_cores() -> float:
    """Cores this process may use: affinity, cut by a container's quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    quota = _read('/sys/fs/cgroup/cpu.max').split()
    return min(cores, int(quota[0]) / int(quota[1])) if len(quota) == 2 and quota[0].isdigit() else cores


def memory_bytes() -> int:
    """Memory this process may use, cut by a container's limit; 0 where it cannot be told."""
    rows = dict(line.split(':', 1) for line in _read('/proc/meminfo').splitlines() if ':' in line)
    total = int(rows.get('MemTotal', '0 kB').split()[0]) * 1024
    limit = _read('/sys/fs/cgroup/memory.max').strip()
    return min(total, int(limit)) if limit.isdigit() else total


def cpu_flags() -> list[str]:
    """Which of `CPU_FLAGS` the processor has."""
    lines = (line for line in _read('/proc/cpuinfo').splitlines() if line.startswith('flags'))
    flags = set(next(lines, '').split())
    return [flag for flag in CPU_FLAGS if flag in flags]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ''


def check_hardware(folder: Path) -> list[Finding]:
    """Cores, their fast instructions, GPU, memory, and free disk where `folder` is."""
    cores, memory, free = usable_cores(), memory_bytes(), shutil.disk_usage(_existing(folder)).free
    flags = ', '.join(CPU_FLAGS[flag] for flag in cpu_flags()) or 'none of AMX, AVX-512 bf16, AVX2'
    return [
        Finding('hardware', 'cores', 'ok', f'{cores:g} usable, {platform.machine()}; {flags}'),
        _check_gpu(),
        Finding(
            'hardware', 'memory',
            *_enough(memory, 8 * GIB, 'training the demo takes up to 6 GiB: close other programs')),
        Finding(
            'hardware', 'disk',
            *_enough(free, 5 * GIB, f'free at least 5 GiB in {folder} for worlds and checkpoints')),
    ]


def _enough(found: int, wanted: int, step: str) -> tuple[str, str, str]:
    return (
        ('ok' if found >= wanted else 'partly'), f'{found / GIB:.1f} GiB', ('' if found >= wanted else step))


def _existing(folder: Path) -> Path:
    folder = Path(folder).absolute()
    return next(p for p in (folder, *folder.parents) if p.exists())


def _check_gpu() -> Finding:
    try:
        import torch

        names = (
            [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            if torch.cuda.is_available()
            else []
        )
    except Exception:
        names = []
    return Finding(
        'hardware', 'gpu', 'ok' if names else 'absent', ', '.join(names) or 'no CUDA device',
        '' if names else 'nothing to do: everything runs on the CPU; training at full size wants a GPU')


# ------------------------------------------------------------------------------------------------------------
# reporting

def verdict(findings: Iterable[Finding]) -> int:
    """Exit code: 1 when a required thing is absent or broken, else 0."""
    return int(any(f.required and f.state in ('absent', 'broken') for f in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for a program."""
    return json.dumps({'exit_code': verdict(findings), 'findings': [asdict(f) for f in findings]}, indent=1)


def as_text(findings: Sequence[Finding]) -> str:
    """The findings for a person, by area, each gap with its next step below it."""
    marks = {'ok': 'ok     ', 'partly': 'partly ', 'absent': 'absent ', 'broken': 'BROKEN '}
    width = max((len(f.name) for f in findings), default=0)
    lines: list[str] = []
    for i, f in enumerate(findings):
        if i == 0 or findings[i - 1].area != f.area:
            lines += ['', f.area] if lines else [f.area]
        needed = ' (required)' if f.required and f.state in ('absent', 'broken') else ''
        lines.append(f'  {marks[f.state]} {f.name:<{width}}  {f.detail}{needed}')
        if f.next_step:
            lines.append(f'  {"":7} {"":{width}}  -> {f.next_step}')
    missing = [f.name for f in findings if f.required and f.state in ('absent', 'broken')]
    lines += [
        '', f'Required and missing: {", ".join(missing)}' if missing else 'Everything required is there.']
    return '\n'.join(lines)


def examine(root: Path | None = None, version: str | None = None) -> list[Finding]:
    """All findings: the software, the hardware, and a nuScenes-format root where one is named."""
    from .doctor_data import check_root
    data = check_root(Path(root), version) if root is not None else []
    return [*check_software(), *check_hardware(root or Path.cwd()), *data]
