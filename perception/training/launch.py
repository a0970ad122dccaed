"""From the command line to a runner that is ready to train or test."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.config import config_name, read_config
from .runner import PerceptionRunner, distributed_cpu_options, init_processes


def build_runner(
    config_path: str | Path,
    work_dir: str | Path | None = None,
    resume: str | None = None,
    amp: bool = False,
    launcher: str = 'none',
    seed: int | None = None,
    checkpoint: str | Path | None = None,
    options: dict[str, Any] | None = None,
) -> PerceptionRunner:
    """A `PerceptionRunner` from a configuration file and the options of the command line.

    Args:
        config_path: the configuration.
        work_dir: folder of logs and checkpoints; None: the configuration's, or `work_dirs/<its name>`.
        resume: 'auto' goes on from the newest checkpoint of the work dir, a path from that one; None starts
            from nothing.
        amp: autocast to what the device computes fast (`dtype='auto'` of `GuardedOptimWrapper`).
        launcher: 'pytorch', 'slurm' or 'mpi' for several processes.
        seed: of everything; None: the configuration's.
        checkpoint: weights to load before testing.
        options: changes of the configuration, as `--cfg-options` makes them.

    Raises:
        FileNotFoundError: there is no such configuration or checkpoint.
        ValueError: from `read_config`.
    """
    config = read_config(config_path, options)
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / config_name(config_path))
    config.launcher = launcher
    if seed is not None:
        config.randomness = {**config.get('randomness', {}), 'seed': seed}
    if amp:
        config.optim_wrapper = {**config.optim_wrapper, 'type': 'GuardedOptimWrapper', 'dtype': 'auto'}

    if resume:
        config.resume = True
        config.load_from = None if resume == 'auto' else str(resume)
        if resume != 'auto' and not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: no such checkpoint')
    if checkpoint is not None:
        config.load_from, config.resume = str(checkpoint), False
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f'checkpoint {checkpoint}: no such file')

    init_processes(launcher)
    distributed_cpu_options(config, launcher)
    return PerceptionRunner.from_cfg(config)
