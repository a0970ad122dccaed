"""mmengine's Runner, with built parts, safe checkpoints, and errors before hours of work begin."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..core.checkpoint import match_weights, read_checkpoint, start_from
from ..core.processes import process_count
from ..registry import MODELS, without_pretrained
from .distributed import SharedLossHook


class PerceptionRunner(Runner):
    """Runner that builds our models with their parts and never executes what a checkpoint holds.

    `freeze` in the configuration lists prefixes of parameter names that are not trained; their modules stay
    in evaluation. `start_weights=dict(file=..., prefix='encoders.camera.')` starts that part (or a list of
    parts) of a new training from a file; a checkpoint that is loaded or resumed brings all weights itself.
    """

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model part by part and freeze what the configuration lists."""
        if not isinstance(model, nn.Module):
            # a checkpoint brings all weights: published ones need not be available for testing it
            model = MODELS.build(without_pretrained(model) if self._load_from else model)

        start = self.cfg.get('start_weights')
        if start and not self._load_from:
            copied = start_from(model, start['file'], start['prefix'])
            self.logger.info(f'{start["file"]}: {copied} tensors below {start["prefix"]} start from it')
        freeze_parameters(model, self.cfg.get('freeze', ()))
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
        if process_count() > 1:
            self.register_hook(SharedLossHook())

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: list | None = None) -> dict[str, Any]:
        """Load weights, strictly by default, with `weights_only`.

        The configuration text inside is dropped, never executed.
        """
        checkpoint = read_checkpoint(filename, 'cpu' if callable(map_location) else map_location)
        checkpoint.setdefault('meta', {}).pop('config', None)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        match_weights(
            self.model.module if is_model_wrapper(self.model) else self.model, checkpoint['state_dict'],
            str(filename), strict)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write beside, read back, then rename.

        A full disk or a killed job leaves the last good checkpoint alone.

        Raises:
            ValueError: the file could not be read back safely (a scheduler or hook put more than plain values
            into it).
        """
        if self.rank == 0:
            partial = Path(out_dir) / (filename + '.partial')
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
            read_checkpoint(partial)
            os.replace(partial, Path(out_dir) / filename)


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
