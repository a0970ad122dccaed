"""How a TensorRT engine is built and under which name it is kept.

All but `build` are plain values, decided without the library.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import EngineUnavailable

MIN_VERSION, STRONGLY_TYPED_ONLY = (8, 6), (11, 0)
_FLAG_OF = {'fp16': 'FP16', 'bf16': 'BF16', 'int8': 'INT8'}


@dataclass(frozen=True)
class BuildOptions:
    """What the builder is told.

    Attributes:
        precision: fp32, fp16, bf16 or int8 (a network with QuantizeLinear operators; before TensorRT 11 the
            rest in fp16).
        held: what the network file itself computes in (`file_precision`). From TensorRT 11 on this alone
            counts, and `precision` must be the same.
        workspace_mb: memory a layer may borrow.
        optimisation_level: 0..5, the higher the longer the build.
        tf32: let fp32 products use it.
    """

    precision: str = 'fp16'
    held: str = 'fp32'
    workspace_mb: int = 2048
    optimisation_level: int = 3
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ('fp32', *_FLAG_OF):
            raise ValueError(f'precision: expected fp32, fp16, bf16 or int8, found {self.precision!r}')
        if self.held not in ('fp32', 'fp16', 'int8'):
            raise ValueError(f'held: expected fp32, fp16 or int8, found {self.held!r}')
        if not 0 <= self.optimisation_level <= 5:
            raise ValueError(f'optimisation_level: expected 0 to 5, found {self.optimisation_level}')
        if self.workspace_mb < 1:
            raise ValueError(f'workspace_mb: expected at least 1, found {self.workspace_mb}')


@dataclass(frozen=True)
class BuildPlan:
    """`BuildOptions` for one version of the library, with the names of its flags.

    Names, not flags, so that a plan can be tested without the library.
    """

    network_flags: tuple[str, ...]
    builder_flags: tuple[str, ...]
    workspace_bytes: int
    optimisation_level: int


def parse_version(text: str) -> tuple[int, int]:
    """'10.3.0.post1' -> (10, 3).

    Raises:
        EngineUnavailable: older than 8.6. ValueError: no version.
    """
    parts = text.split('.')
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        raise ValueError(f'TensorRT version: expected e.g. 10.3.0, found {text!r}')
    version = int(parts[0]), int(parts[1])
    if version < MIN_VERSION:
        raise EngineUnavailable(f'TensorRT {text} is too old: expected 8.6 or later')
    return version


def plan(options: BuildOptions, version: tuple[int, int]) -> BuildPlan:
    """What to tell TensorRT of this version.

    Raises:
        EngineUnavailable: this version cannot do it.
    """
    # from 11 on flags are gone; before, a network in half precision is built as it is where that exists
    in_half = options.held == options.precision == 'fp16'
    typed = version >= STRONGLY_TYPED_ONLY or (in_half and version >= (10, 0))
    if options.held != options.precision and (typed or options.held != 'fp32' or options.precision == 'int8'):
        raise EngineUnavailable(
            f'TensorRT {version[0]}.{version[1]} takes the precision from the network: it holds '
            f'{options.held}, found {options.precision!r}; tools/export.py writes networks in fp32 and fp16, '
            'with --int8 --int8-engine tensorrt also in int8'
        )

    if options.precision == 'bf16' and version < (9, 0):
        raise EngineUnavailable(f'bf16 needs TensorRT 9 or later, found {version[0]}.{version[1]}')

    # flags by their names
    network = [] if version >= (10, 0) else ['EXPLICIT_BATCH']
    builder = ['TF32'] if options.tf32 else []
    if typed:
        network.append('STRONGLY_TYPED')
    elif options.precision in _FLAG_OF:
        builder += ['FP16', 'INT8'] if options.precision == 'int8' else [_FLAG_OF[options.precision]]
    return BuildPlan(tuple(network), tuple(builder), options.workspace_mb << 20, options.optimisation_level)


def cache_key(network_hash: str, options: BuildOptions, version: str, device: str) -> str:
    """The name of a built engine: it serves the same network, options, library and device, and no others."""
    told = json.dumps([network_hash, asdict(options), version, device], sort_keys=True)
    slug = ''.join(c if c.isalnum() else '-' for c in device.lower())
    return f'{options.precision}-trt{version}-{slug}-{hashlib.sha256(told.encode()).hexdigest()[:16]}'


def build(
    trt: Any,
    network_path: Path,
    options: BuildOptions,
    timing_cache: bytes = b'',
    report: Callable[[str], None] | None = None,
) -> tuple[bytes, bytes]:
    """Build an engine with the library `trt`.

    Returns:
        The serialised engine, and the timing cache that makes the next build of a similar network fast.

    Raises:
        ValueError: the parser refuses the network (its own words), or the builder gives up.
    """
    build_plan = plan(options, parse_version(trt.__version__))
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_bits(trt.NetworkDefinitionCreationFlag, build_plan.network_flags))

    parser = trt.OnnxParser(network, logger)
    if not parser.parse(network_path.read_bytes()):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise ValueError(f'{network_path}: TensorRT cannot read it: ' + '; '.join(errors[:5]))

    # TF32 is on unless it is cleared
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, build_plan.workspace_bytes)
    config.builder_optimization_level = build_plan.optimisation_level
    if 'TF32' not in build_plan.builder_flags:
        config.clear_flag(trt.BuilderFlag.TF32)
    for flag in build_plan.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))

    cache = config.create_timing_cache(timing_cache)
    config.set_timing_cache(cache, ignore_mismatch=False)
    if report is not None:
        report(
            f'building a TensorRT engine for {network_path} ({options.precision}); this takes minutes, once'
        )
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise ValueError(f'{network_path}: TensorRT built nothing; its log above says why')
    return bytes(serialised), bytes(config.get_timing_cache().serialize())


def _bits(kind: Any, names: tuple[str, ...]) -> int:
    flags = 0
    for name in names:
        flags |= 1 << int(getattr(kind, name))
    return flags
