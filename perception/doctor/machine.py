"""What the machine can do: cores, their fast instructions, GPU, memory, disk."""
from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from .finding import Finding

GIB = 1024**3
AREA = 'hardware'
CPU_FLAGS = {'amx_bf16': 'AMX bf16 (fast bf16 engines)', 'avx512_bf16': 'AVX-512 bf16', 'avx2': 'AVX2'}


def check_hardware(folder: Path) -> list[Finding]:
    """Cores, their fast instructions, GPU, memory, and free disk where `folder` is."""
    flags = ', '.join(CPU_FLAGS[flag] for flag in cpu_flags()) or 'none of AMX, AVX-512 bf16, AVX2'
    cores = f'{usable_cores():g} usable, {platform.machine()}; {flags}'
    free_bytes = shutil.disk_usage(_existing(folder)).free
    return [
        Finding(AREA, 'cores', 'ok', cores),
        _check_gpu(),
        _check_bytes(
            'memory', memory_bytes(), 8 * GIB,
            'training the demo takes up to 6 GiB: close other programs'),
        _check_bytes(
            'disk', free_bytes, 5 * GIB, f'free at least 5 GiB in {folder} for worlds and checkpoints'
        ),
    ]


def usable_cores() -> float:
    """Cores this process may use: affinity, cut by a container's quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    quota = read_system_file('/sys/fs/cgroup/cpu.max').split()
    if len(quota) != 2 or not quota[0].isdigit():
        return cores
    return min(cores, int(quota[0]) / int(quota[1]))


def memory_bytes() -> int:
    """Memory this process may use, cut by a container's limit; 0 where it is unknown."""
    rows = dict(line.split(':', 1) for line in read_system_file('/proc/meminfo').splitlines() if ':' in line)
    total = int(rows.get('MemTotal', '0 kB').split()[0]) * 1024
    limit = read_system_file('/sys/fs/cgroup/memory.max').strip()
    return min(total, int(limit)) if limit.isdigit() else total


def cpu_flags() -> list[str]:
    """Which of `CPU_FLAGS` the processor has."""
    lines = (line for line in read_system_file('/proc/cpuinfo').splitlines() if line.startswith('flags'))
    flags = set(next(lines, '').split())
    return [flag for flag in CPU_FLAGS if flag in flags]


def read_system_file(path: str) -> str:
    """Content of a file of the system; '' where it cannot be read."""
    try:
        return Path(path).read_text(encoding='utf-8')
    except OSError:
        return ''


def _check_bytes(name: str, available: int, needed: int, step: str) -> Finding:
    enough = available >= needed
    return Finding(
        AREA, name, 'ok' if enough else 'partly', f'{available / GIB:.1f} GiB', '' if enough else step
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = Path(folder).absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _check_gpu() -> Finding:
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = [torch.cuda.get_device_name(i) for i in range(count)]
    except Exception:  # no torch, or a driver that does not fit it
        names = []

    if names:
        return Finding(AREA, 'gpu', 'ok', ', '.join(names))
    step = 'nothing to do: everything runs on the CPU; training at full size wants a GPU'
    return Finding(AREA, 'gpu', 'absent', 'no CUDA device', step)
