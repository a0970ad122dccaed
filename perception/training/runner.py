"""mmengine's Runner, with built parts, safe checkpoints, and errors before hours of work begin."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..core.checkpoint import check_trained_classes, match_weights, read_checkpoint
from ..core.processes import FolderLock, process_count
from ..registry import MODELS, without_pretrained
from .balancing import BalancedTraining, balanced_training, build_balancer
from .distributed import SharedLossHook
from .labels import LabelsHook
from .loaders import check_not_empty, guard_loader, is_foreign_sampler, timed_out, with_places
from .recompute import recompute_parts
from .start import start_parts
from .state.checkpoints import PARTIAL, newest_checkpoint, remove_unfinished, spoiled_tensor
from .state.generators import UndisturbedHook, generator_states, restore_generators
from .state.loops import EpochLoop
from .state.memories import MemoryHook, gathered_memories, memory_of, restore_memories
from .state.progress import TrainingProgress, facts_of
from .state.resume import load_optimiser, open_gradients, replay_schedules, restore_gradients
from .state.writing import own_second
from .targets import make_targets_in


def read_only_safely(filename: str, map_location: Any = None) -> dict[str, Any]:
    """What mmengine's functions get that read a checkpoint on their own.

    They are those that start weights (`init_cfg`), publish, or infer; none of them unpickles anything.
    """
    return read_checkpoint(filename, map_location if isinstance(map_location, (str, torch.device)) else 'cpu')


CheckpointLoader.register_scheme(prefixes='', loader=read_only_safely, force=True)


class PerceptionRunner(Runner):
    """Runner that builds our models with their parts and never executes what a checkpoint holds.

    `freeze` in the configuration lists prefixes of parameter names that are not trained; their modules stay
    in evaluation. `recompute` lists modules whose activations are computed again in the backward.
    `start_weights=dict(file=..., prefix='encoders.camera.')` (fields of `StartWeights`, or a list of such)
    starts parts of a new training from a file; a checkpoint that is loaded or resumed brings all weights
    itself.
    `balancer=dict(type=...)` chooses the gradient of the tasks together (`training.balancing`).

    Attributes:
        balanced: the step with the balancer in it; None without one.
    """

    balanced: BalancedTraining | None = None

    def setup_env(self, env_cfg: dict) -> None:
        """As mmengine's; no two runs of a process get one name."""
        super().setup_env(env_cfg)
        self._timestamp = own_second(self._timestamp)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model part by part and freeze what the configuration lists."""
        if not isinstance(model, nn.Module):
            # a checkpoint brings all weights: published ones need not be available for testing it
            model = MODELS.build(without_pretrained(model) if self._load_from else model)

        for line in start_parts(model, None if self._load_from else self.cfg.get('start_weights')):
            self.logger.info(line)
        freeze_parameters(model, self.cfg.get('freeze', ()))
        recompute_parts(model, self.cfg.get('recompute', ()))
        if self.cfg.get('sync_bn') and getattr(model, 'norm_by_sensors', False):
            raise ValueError(
                f'sync_bn {self.cfg["sync_bn"]!r} and model.norm_by_sensors: statistics by sets of sensors '
                "are each process's own; leave one of the two out"
            )
        return model

    def replace_model(self, model: nn.Module) -> None:
        """Test `model`, which has its weights, in place of the configuration's."""
        self.model = model
        self._load_from = None

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """The configuration's hooks; with several processes also one that logs the whole batch's losses."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(LabelsHook())
        self.register_hook(UndisturbedHook())
        self.register_hook(MemoryHook())
        if process_count() > 1:
            self.register_hook(SharedLossHook())

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | Mapping[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """As mmengine's; its workers end with this process, and waiting for them ends, too."""
        given = isinstance(dataloader, DataLoader)
        dataloader = dataloader if given else with_places(dataloader)
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        return loader if given else guard_loader(loader, dataloader.get('timeout'))

    def build_train_loop(self, loop: Any) -> Any:
        """The training loop; other samplers than ours write draws into their indices, too.

        Raises:
            ValueError: there is nothing to train on, or the balancer does not fit the model.
        """
        if isinstance(loop, Mapping) and 'by_epoch' in loop:
            kind = 'EpochBasedTrainLoop' if loop['by_epoch'] else 'IterBasedTrainLoop'
            loop = {'type': kind, **{name: value for name, value in loop.items() if name != 'by_epoch'}}

        loader = self._train_dataloader
        if isinstance(loader, Mapping) and is_foreign_sampler(loader.get('sampler')):
            self._train_dataloader = {
                **loader, 'sampler': {'type': 'NumberedSampler', 'sampler': dict(loader['sampler'])}
            }
        loop = super().build_train_loop(loop)
        check_not_empty(loop.dataloader)
        make_targets_in(loop.dataloader, self._plain_model)
        self.balanced = balanced_training(build_balancer(self.cfg.get('balancer')), self.model)
        return loop

    def train(self) -> nn.Module:
        """Train; nobody else trains in the work dir meanwhile.

        Raises:
            FolderInUseError: somebody does. TimeoutError: no batch came.
        """
        lock = FolderLock(self.work_dir, 'training') if self.rank == 0 else None
        try:
            if lock is not None:
                remove_unfinished(self.work_dir)
            return self._with_clear_timeouts(super().train)
        finally:
            if lock is not None:
                lock.release()

    def val(self) -> dict:
        """As mmengine's."""
        return self._with_clear_timeouts(super().val)

    def test(self) -> dict:
        """As mmengine's."""
        return self._with_clear_timeouts(super().test)

    def _with_clear_timeouts(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except RuntimeError as error:
            clear = timed_out(error)
            if clear is None:
                raise
            raise clear from error

    def load_or_resume(self) -> None:
        """Load or resume what the configuration says; `resume` without a file takes the newest whole one."""
        if self._resume and self._load_from is None and not self._has_loaded:
            newest, notes = newest_checkpoint(self.work_dir)
            for note in notes:
                self.logger.warning(f'resume: {note}')
            if newest is None:
                self.logger.warning(f'resume: no checkpoint in {self.work_dir}: training starts from nothing')
                return
            self.resume(str(newest))
            return

        try:
            super().load_or_resume()
        except ValueError as error:
            if self._resume or isinstance(self._train_loop, (Mapping, type(None))):
                raise
            raise ValueError(
                f'load_from: {error}. It takes whole models; start_weights takes parts, with other names and '
                'with what may be new (docs/configurations.md)'
            ) from error

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: list | None = None) -> dict[str, Any]:
        """Load weights, strictly by default, with `weights_only`.

        The configuration text inside is dropped, never executed.
        """
        checkpoint = read_checkpoint(filename, 'cpu' if callable(map_location) else map_location)
        checkpoint.setdefault('meta', {}).pop('config', None)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        check_trained_classes(self._plain_model, checkpoint, f'checkpoint {filename}')
        match_weights(self._plain_model, checkpoint['state_dict'], str(filename), strict)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    @property
    def _plain_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _facts(self) -> dict[str, Any]:
        """What progress rests on."""
        wrapper = self.optim_wrapper
        names = [type(part.optimizer).__name__ for _, part in wrapper.items()] if hasattr(
            wrapper, 'items') else [type(wrapper.optimizer).__name__]
        return facts_of(self.train_loop, self.cfg, ' '.join(names), self.seed)

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """Go on from a checkpoint, in samples: what cannot be kept of it is said with both numbers.

        Args:
            filename: the checkpoint.
            resume_optimizer: restore the optimiser's state.
            resume_param_scheduler: set the schedules to the place; False leaves them at their start.
            map_location: where tensors go.

        Raises:
            FileNotFoundError, ValueError: the file cannot be read, is of another model or optimiser, or does
                not say how far it has come.
        """
        device = get_device() if map_location == 'default' else map_location
        checkpoint = self.load_checkpoint(filename, device)
        meta, loop = checkpoint['meta'], self.train_loop
        progress = TrainingProgress.read(meta, str(filename))
        if not isinstance(loop, EpochLoop):
            raise ValueError(
                f'resume: train_cfg.type: expected EpochBasedTrainLoop or IterBasedTrainLoop, found '
                f'{type(loop).__name__}'
            )

        facts = self._facts()
        notes = progress.differences(facts)
        self._take_seed(meta.get('seed'))
        place, lost = progress.place(loop)
        notes += lost

        self.message_hub.load_state_dict(checkpoint.get('message_hub', {}))
        same_kind = progress.facts.get('optimiser', facts['optimiser']) == facts['optimiser']
        if resume_optimizer and same_kind and 'optimizer' in checkpoint:
            notes += load_optimiser(self.optim_wrapper, checkpoint['optimizer'], str(filename))
        if resume_param_scheduler:
            notes += replay_schedules(
                self.param_schedulers, place, len(loop.dataloader), checkpoint.get('param_schedulers')
            )
        restore_gradients(self._plain_model, meta.get('gradients', {}))
        if self.balanced is not None:
            notes += self.balanced.balancer.load_state_dict(meta.get('balancer'))
        if place.samples:
            notes += restore_memories(memory_of(self), meta.get('memories'), device)

        states = meta.get('generators')
        if states is None:
            notes.append('random generators: the checkpoint has none: they start from the seed')
        loop.start_at(place, (lambda: restore_generators(states)) if states else (lambda: None))
        self._has_loaded = True
        self._report(filename, notes)

    def _report(self, filename: str, notes: list[str]) -> None:
        loop = self.train_loop
        for note in notes:
            self.logger.warning(f'resume: {note}')
        self.logger.info(
            f'resumed from {filename}: epoch {loop.epoch} of {loop.max_epochs}, step {loop.iter} of '
            f'{loop.max_iters}, {loop.place.samples} samples into the pass'
        )
        if loop.iter >= loop.max_iters:
            self.logger.warning('resume: nothing is left to train')

    def _take_seed(self, seed: int | None) -> None:
        """Use the checkpoint's seed: the order of the samples depends on it."""
        if seed is None or seed == self.seed:
            return
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        sampler = self.train_loop.dataloader.sampler
        if hasattr(sampler, 'seed'):
            sampler.seed = seed

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        *args: Any,
        meta: dict[str, Any] | None = None,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> None:
        """Write beside, read back, then rename: the last good checkpoint stays until the new one is whole.

        It holds how far the training has come in samples, the states of the random generators, and gradients
        that wait for the rest of their accumulated batches.

        Raises:
            OSError: names the file. FloatingPointError: a value is not finite; names the tensor.
            ValueError: the file could not be read back safely (a scheduler or hook put more than plain values
                into it).
        """
        memories = gathered_memories(memory_of(self))
        if self.rank != 0:
            return
        path, partial = Path(out_dir) / filename, Path(out_dir) / (filename + PARTIAL)
        self._refuse_spoiled(path)
        meta = self._full_meta(meta or {}, by_epoch) | memories

        try:
            super().save_checkpoint(out_dir, partial.name, *args, meta=meta, by_epoch=by_epoch, **kwargs)
            with partial.open('rb') as file:
                os.fsync(file.fileno())
            read_checkpoint(partial)
            os.replace(partial, path)
        except OSError as error:
            reason = f'checkpoint not written: {error.strerror or error}'
            raise OSError(error.errno, reason, str(path)) from error
        finally:
            partial.unlink(missing_ok=True)

    def _full_meta(self, meta: dict[str, Any], by_epoch: bool) -> dict[str, Any]:
        loop = self.train_loop
        meta = {'epoch': self.epoch + by_epoch, 'iter': self.iter + (not by_epoch), **meta}
        if isinstance(loop, EpochLoop):
            meta['progress'] = TrainingProgress.now(loop, meta['epoch'], meta['iter'], self._facts())

        meta['generators'] = generator_states()
        if self.balanced is not None:
            meta['balancer'] = self.balanced.balancer.state_dict()
        gradients = open_gradients(self._plain_model) if process_count() == 1 else {}
        return meta | ({'gradients': gradients} if gradients else {})

    def _refuse_spoiled(self, path: Path) -> None:
        """Stop before weights or a state of the optimiser that are not finite go into a file."""
        broken = spoiled_tensor(
            {'state_dict': self._plain_model.state_dict(), 'optimizer': self.optim_wrapper.state_dict()}
        )
        if broken is not None:
            stands = 'the one that stands there stays' if path.is_file() else 'nothing is written'
            raise FloatingPointError(f'checkpoint {path}: {broken} is not finite: {stands}; training stopped')


def freeze_parameters(model: nn.Module, prefixes: list[str] | tuple[str, ...]) -> int:
    """Stop training of every parameter whose name starts with one of `prefixes`.

    Modules whose names do so stay in evaluation from now on, whatever mode their model is put into: their
    batch norms neither move nor normalise by the batch, their dropouts let everything through. Where nothing
    before them learns, autograd remembers nothing of their forward.

    Returns:
        How many parameters were frozen.

    Raises:
        ValueError: a prefix fits no parameter.
    """
    frozen = 0
    for prefix in prefixes:
        parameters = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        if not parameters:
            raise ValueError(f'freeze: no parameter of the model starts with {prefix!r}')
        for parameter in parameters:
            parameter.requires_grad_(False)
        frozen += len(parameters)

        for name, module in model.named_modules():
            if name and f'{name}.'.startswith(prefix):
                module.eval()
                module.train = MethodType(_stay_in_evaluation, module)
    return frozen


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    """What a frozen module does instead of `train`."""
    return module


def init_processes(launcher: str) -> None:
    """Start the process group on machines without a GPU.

    mmengine's own start-up asks for CUDA; with a GPU mmengine does it.
    """
    if launcher == 'pytorch' and not torch.cuda.is_available() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')


def distributed_cpu_options(config: Config, launcher: str) -> None:
    """DistributedDataParallel on CPUs takes no device ids."""
    if launcher != 'none' and not torch.cuda.is_available():
        config.setdefault(
            'model_wrapper_cfg',
            {
                'type': 'MMDistributedDataParallel', 'device_ids': None,
                'find_unused_parameters': config.get('find_unused_parameters', False)},
        )
        config.setdefault('env_cfg', {})['dist_cfg'] = {'backend': 'gloo'}
