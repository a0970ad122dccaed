"""What this machine's processor is, and how many bits of a weight its int8 instructions can use."""
from __future__ import annotations

import os
import platform
from collections.abc import Collection

_MATRIX_INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')
_VNNI_INSTRUCTIONS = {'avx512_vnni', 'avx_vnni'}
_X86_ARCHITECTURES = {'x86_64', 'amd64', 'i386', 'i686', 'x86'}


def processor_info() -> dict[str, str]:
    """{field: value} of the system's description of the processor; empty where there is no /proc/cpuinfo."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            fields = dict(line.split(':', 1) for line in file.read().splitlines() if ':' in line)
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, value in fields.items()}


def weight_bits(flags: Collection[str] | None = None, architecture: str | None = None) -> int:
    """How many bits the weights of an int8 network may have on a processor: 8, or 7 where products saturate.

    x86 processors without VNNI add two products of a uint8 value and an int8 weight in 16 bits
    (`vpmaddubsw`), and 255 * 127 * 2 exceeds 32767: the sum saturates, and a layer's outputs can be wrong by
    a quarter of their norm. With 7 bits no sum does: 255 * 64 * 2 = 32640. ONNX Runtime and OpenVINO both use
    these instructions.

    Args:
        flags: instructions of the processor, as /proc/cpuinfo names them (default: those of this machine). An
            x86 processor of unknown instructions counts as one without VNNI, which is right on any.
        architecture: such as 'x86_64' or 'aarch64' (default: that of this machine).
    """
    if (architecture or platform.machine()).lower() not in _X86_ARCHITECTURES:
        return 8
    known = processor_info().get('flags', '').split() if flags is None else flags
    return 8 if _VNNI_INSTRUCTIONS & set(known) else 7


def machine_name() -> dict[str, object]:
    """Processor, cores this process may use, and the instructions that decide how fast bf16 and int8 are."""
    info = processor_info()
    flags = info.get('flags', '').split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()

    return {
        'processor': info.get('model name', platform.processor() or platform.machine()),
        'cores': cores,
        'instructions': [name for name in _MATRIX_INSTRUCTIONS if name in flags],
    }


def machine_words() -> str:
    """`machine_name` in one line."""
    machine = machine_name()
    return ', '.join([f'{machine["processor"]} with {machine["cores"]} cores', *machine['instructions']])
