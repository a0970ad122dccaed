"""mmengine's hooks that write to the disk, so that nothing good is lost.

What is good is removed when the next one is whole, and a full disk ends a training only where it should.

They have mmengine's names in our scope, so that a configuration gets them without saying so.
"""
from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import Runner

from ...core.checkpoint import read_checkpoint
from ...core.files import write_whole
from ...registry import HOOKS
from .checkpoints import point_to

STAMP = '%Y%m%d_%H%M%S'
"""The moment in the name of a run and of its folder of logs."""

_taken: set[str] = set()

ON_WRITE_ERROR = ('stop', 'continue')
NOT_PUBLISHED = ('progress', 'generators', 'gradients', 'balancer', 'memories')
"""Entries of a checkpoint's meta that only the training itself needs."""


def check_choice(hook: str, on_write_error: str) -> str:
    """The option, where it is one of `ON_WRITE_ERROR`.

    Raises:
        ValueError: it is not.
    """
    if on_write_error not in ON_WRITE_ERROR:
        raise ValueError(
            f'{hook}: on_write_error: expected one of {", ".join(ON_WRITE_ERROR)}, found {on_write_error!r}'
        )
    return on_write_error


def own_second(stamp: str) -> str:
    """`stamp`, or the next second after it by which this process has named no run yet.

    mmengine keeps loggers and what they have logged by a run's name: two runs that begin in one second would
    write into the first one's folder.
    """
    while stamp in _taken:
        stamp = (datetime.strptime(stamp, STAMP) + timedelta(seconds=1)).strftime(STAMP)
    _taken.add(stamp)
    return stamp


@HOOKS.register_module(name='CheckpointHook')
class SafeCheckpointHook(CheckpointHook):
    """Write checkpoints; the older one goes when the newer one is whole.

    For that moment `max_keep_ckpts` + 1 of them lie on the disk.

    Args:
        *args: as mmengine's.
        on_write_error: 'stop' ends the training at a checkpoint that cannot be written (a full disk),
            'continue' goes on without it.
        **options: as mmengine's.
    """

    def __init__(self, *args: Any, on_write_error: str = 'stop', **options: Any) -> None:
        self.on_write_error = check_choice('CheckpointHook', on_write_error)
        super().__init__(*args, **options)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        path, limit = Path(self.out_dir) / name, max(self.max_keep_ckpts, 0)
        before = list(self.keep_ckpt_ids) if limit else []
        kept = [*(other for other in before if other != step), step]
        if limit:
            runner.message_hub.update_info('keep_ckpt_ids', kept[-limit:])
        runner.message_hub.update_info('last_ckpt', str(path))

        try:
            runner.save_checkpoint(
                self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
                backend_args=self.backend_args, **self.args)
            if is_main_process():
                point_to(runner.work_dir, path)
        except OSError as error:
            if self.on_write_error == 'stop':
                raise
            runner.logger.error(f'no checkpoint {name}: {error}; training goes on')
            if limit:
                runner.message_hub.update_info('keep_ckpt_ids', before)
            return

        self.last_ckpt = str(path)
        if limit:
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-limit:])
            self._remove([Path(self.out_dir) / self.filename_tmpl.format(other) for other in kept[:-limit]])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """The best one before goes when the new one is whole, too."""
        backend, known = self.file_backend, self._known_best(runner)
        self.file_backend = KeepingBackend(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            self._know_best(runner, *known)
            if self.on_write_error == 'stop':
                raise
            runner.logger.error(f'no best checkpoint: {error}; training goes on')
            return
        finally:
            outdated, self.file_backend = self.file_backend.outdated, backend

        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        self._remove([Path(path) for path in outdated if path not in best])

    def _known_best(self, runner: Runner) -> tuple[dict[str, Any], dict[str, Any]]:
        """What hook and message hub know of the best checkpoint."""
        own = {name: value for name, value in vars(self).items() if name.startswith('best_ckpt')}
        info = runner.message_hub.runtime_info
        return copy.deepcopy(own), {name: info[name] for name in info if name.startswith('best_')}

    def _know_best(self, runner: Runner, own: dict[str, Any], told: dict[str, Any]) -> None:
        """Inverse of `_known_best`."""
        vars(self).update(own)
        info = runner.message_hub.runtime_info
        for name in [name for name in info if name.startswith('best_')]:
            del info[name]
        info.update(told)

    @master_only
    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        """Cut a checkpoint down to `published_keys`; read and written safely."""
        checkpoint = read_checkpoint(ckpt_path)
        published = {key: value for key, value in checkpoint.items() if key in self.published_keys}
        if 'meta' in published:
            published['meta'] = {
                key: value for key, value in published['meta'].items() if key not in NOT_PUBLISHED
            }

        unnamed = Path(ckpt_path).with_suffix('.published')
        path = write_whole(unnamed, lambda file: torch.save(published, file))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        final = path.replace(Path(ckpt_path).with_name(f'{Path(ckpt_path).stem}-{digest[:8]}.pth'))
        runner.logger.info(f'{ckpt_path}: {", ".join(published)} published as {final}')


class KeepingBackend:
    """mmengine's way to files that notes what is to be removed instead of removing it.

    Args:
        backend: whose other methods it has.

    Attributes:
        outdated: what was to be removed.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Note it."""
        self.outdated.append(str(path))


@HOOKS.register_module(name='LoggerHook')
class SafeLoggerHook(LoggerHook):
    """Write logs; a log that cannot be written is said once, and the training goes on or stops.

    Args:
        *args: as mmengine's.
        on_write_error: 'continue' or 'stop'.
        **options: as mmengine's.
    """

    def __init__(self, *args: Any, on_write_error: str = 'continue', **options: Any) -> None:
        self.on_write_error = check_choice('LoggerHook', on_write_error)
        self._said = False
        super().__init__(*args, **options)

    def after_train_iter(self, runner: Runner, *args: Any, **words: Any) -> None:
        """Log a step."""
        self._write(runner, super().after_train_iter, *args, **words)

    def after_val_epoch(self, runner: Runner, *args: Any, **words: Any) -> None:
        """Log a validation."""
        self._write(runner, super().after_val_epoch, *args, **words)

    def after_run(self, runner: Runner) -> None:
        """Close the logs."""
        self._write(runner, super().after_run)

    def _write(self, runner: Runner, write: Callable, *args: Any, **words: Any) -> None:
        try:
            write(runner, *args, **words)
        except OSError as error:
            place = error.filename or runner.log_dir
            if self.on_write_error == 'stop':
                raise OSError(error.errno, f'log: {error.strerror or error}', str(place)) from error
            if not self._said:
                self._said = True
                runner.logger.error(f'log {place}: {error}; training goes on, this is said once')
