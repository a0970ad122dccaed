"""From the command line to a runner that is ready to train or test."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import get_dist_info

from ..core.config import config_name, read_config
from ..core.processes import FolderLock
from .runner import PerceptionRunner, distributed_cpu_options, init_processes
from .state.checkpoints import discard_training, training_checkpoints


def build_runner(
    config_path: str | Path,
    work_dir: str | Path | None = None,
    resume: str | None = None,
    amp: bool = False,
    launcher: str = 'none',
    seed: int | None = None,
    checkpoint: str | Path | None = None,
    options: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> PerceptionRunner:
    """A `PerceptionRunner` from a configuration file and the options of the command line.

    Args:
        config_path: the configuration.
        work_dir: folder of logs and checkpoints; None: the configuration's, or `work_dirs/<its name>`.
        resume: 'auto' goes on from the newest whole checkpoint of the work dir, a path from that one; None
            starts from nothing.
        amp: autocast to what the device computes fast (`dtype='auto'` of `GuardedOptimWrapper`).
        launcher: 'pytorch', 'slurm' or 'mpi' for several processes.
        seed: of everything; None: the configuration's.
        checkpoint: weights to load before testing.
        options: changes of the configuration, as `--cfg-options` makes them.
        overwrite: remove the checkpoints of an earlier training from the work dir. Without it a training that
            starts from nothing there is refused.

    Raises:
        FileExistsError: there are checkpoints in the work dir, and neither `resume` nor `overwrite` is given.
        FolderInUseError: another process trains in the work dir.
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
    if checkpoint is None:
        claim_work_dir(config.work_dir, bool(config.get('resume')), overwrite)
    distributed_cpu_options(config, launcher)
    return PerceptionRunner.from_cfg(config)


def claim_work_dir(work_dir: str | Path, resume: bool, overwrite: bool) -> None:
    """See that a training may write in a work dir, before anything is written there.

    Args:
        work_dir: the folder.
        resume: the training goes on from a checkpoint.
        overwrite: it starts from nothing and the checkpoints there go.

    Raises:
        FileExistsError, FolderInUseError: as `build_runner` says.
    """
    if get_dist_info()[0] != 0:
        return
    found = training_checkpoints(work_dir)
    if found and not resume and not overwrite:
        raise FileExistsError(
            f'{work_dir}: {len(found)} checkpoints of an earlier training lie here, such as '
            f'{found[-1].name}; --resume goes on from the newest, --overwrite removes them, --work-dir takes '
            'another folder'
        )

    lock = FolderLock(work_dir, 'training')
    if overwrite and not resume:
        discard_training(work_dir)
    lock.release()
