"""Where the time of a training step or of an inference goes, stage by stage, in wall and processor seconds.

Stages are marked in the order in which they run. Forward: a stage begins when its module (or method) is
called. Backward: autograd works through the stages in reverse, and a stage begins when the gradient of its
output is ready. What lies between two marks belongs to the first of them. Processor seconds are summed over
threads and do not depend on who else uses the machine.
"""
from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..model import MultiTaskPerception
from .targets import with_targets


@dataclass
class ProfileClock:
    """Seconds by (phase, stage). `mark` closes the stage that runs and opens another one."""

    wall_s: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    _open: tuple[tuple[str, str], float, float] | None = None

    def mark(self, phase: str, stage: str) -> None:
        """From now on time belongs to `stage` of `phase`."""
        wall, cpu = time.perf_counter(), time.process_time()
        if self._open is not None:
            key, since_wall, since_cpu = self._open
            self.wall_s[key] += wall - since_wall
            self.cpu_s[key] += cpu - since_cpu
        self._open = ((phase, stage), wall, cpu)

    def stop(self) -> None:
        """Close the stage that runs."""
        self.mark('', '')
        self._open = None


def model_stages(model: MultiTaskPerception) -> dict[str, nn.Module]:
    """The modules that are stages of their own.

    They are the parts of each encoder, the fuser, the trunk, the bridge and the heads.
    """
    stages = {
        f'{sensor}.{name}': part
        for sensor, encoder in model.encoders.items()
        for name, part in encoder.named_children()
    }
    stages |= {'fuser': model.fuser, 'trunk': model.trunk}
    if model.bridge is not None:
        stages['bridge'] = model.bridge
    stages |= {f'heads.{task}': head for task, head in model.heads.items()}
    return {name: part for name, part in stages.items() if not isinstance(part, nn.Identity)}


@contextmanager
def marked(model: MultiTaskPerception, clock: ProfileClock) -> Iterator[None]:
    """While it lasts, the model's stages mark their times: modules, and the methods around them."""
    with ExitStack() as stack:
        for name, module in model_stages(model).items():
            _mark_module(module, name, clock, stack)
        for name, part in (*model.encoders.items(), *model.heads.items()):
            for method in ('prepare', 'lift', 'place', 'targets', 'loss', 'decode'):
                if hasattr(part, method):
                    _mark_method(part, method, f'{name}.{method}', clock, stack)
        yield


def _mark_module(module: nn.Module, stage: str, clock: ProfileClock, stack: ExitStack) -> None:
    """Mark when a module is called and when the gradient of its output is ready, until `stack` closes."""
    def called(_module: nn.Module, _inputs: Any) -> None:
        clock.mark('forward', stage)

    def returned(_module: nn.Module, _inputs: Any, output: Any) -> None:
        _mark_backward(output, stage, clock)

    stack.callback(module.register_forward_pre_hook(called).remove)
    stack.callback(module.register_forward_hook(returned).remove)


def _mark_method(part: nn.Module, method: str, stage: str, clock: ProfileClock, stack: ExitStack) -> None:
    """Mark when a method is called, until `stack` closes."""
    original = getattr(part, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        clock.mark('forward', stage)
        return original(*args, **kwargs)

    # past nn.Module's own __setattr__, which keeps modules and parameters alone apart
    object.__setattr__(part, method, timed)
    stack.callback(object.__delattr__, part, method)


def _mark_backward(output: Any, stage: str, clock: ProfileClock) -> None:
    """Mark when the gradient of the first differentiable tensor of a stage's output is ready."""
    for tensor in _tensors(output):
        if tensor.requires_grad:
            tensor.register_hook(lambda _gradient: clock.mark('backward', stage))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif is_dataclass(value):  # what an encoder gives, or a bridge to query heads
        yield from _tensors([getattr(value, part.name) for part in fields(value)])


def training_step(
    model: MultiTaskPerception,
    load: Callable[[], dict],
    optimiser: torch.optim.Optimizer,
    clock: ProfileClock,
    cast: Callable[[], Any],
) -> None:
    """One step as the Runner makes it: load, targets, pre-process, forward, backward, update."""
    clock.mark('load', 'read, augment, collate')
    batch = load()
    clock.mark('load', 'targets')
    batch = with_targets(batch, model.heads)

    with marked(model, clock):
        clock.mark('forward', 'preprocess')
        data = model.data_preprocessor(batch, True)
        with cast():
            total = sum(model(**data, mode='loss').values())
        clock.mark('backward', 'losses')
        total.backward()
    clock.mark('update', 'optimiser')
    optimiser.step()
    optimiser.zero_grad()
    clock.stop()


@torch.no_grad()
def inference(
    model: MultiTaskPerception, load: Callable[[], dict], clock: ProfileClock, cast: Callable[[], Any]
) -> None:
    """One prediction: load, pre-process, network, decode."""
    clock.mark('load', 'read, collate')
    batch = load()
    with marked(model, clock), cast():
        clock.mark('forward', 'preprocess')
        model(**model.data_preprocessor(batch), mode='predict')
    clock.stop()


def forward_flops(model: MultiTaskPerception, batch: dict) -> dict[str, int]:
    """Floating-point operations of each stage's forward.

    Products, convolutions and attention count, a multiply-add as two.
    """
    counts: dict[str, int] = {}
    # torch's counter stumbles over some operations that ask for a gradient
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        with ExitStack() as stack, torch.no_grad():
            for name, module in model_stages(model).items():
                _count_module(module, name, counts, stack)
            model(**model.data_preprocessor(batch), mode='tensor')
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counts


def _count_module(module: nn.Module, stage: str, counts: dict[str, int], stack: ExitStack) -> None:
    """Count a module's operations into `counts[stage]` at each call, until `stack` closes."""
    counter = FlopCounterMode(display=False)

    def called(_module: nn.Module, _inputs: Any) -> None:
        counter.__enter__()

    def returned(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        counter.__exit__(None, None, None)
        counts[stage] = counter.get_total_flops()

    stack.callback(module.register_forward_pre_hook(called).remove)
    stack.callback(module.register_forward_hook(returned).remove)


def stage_rows(clock: ProfileClock, steps: int, flops: dict[str, int], peak_gflops: float) -> list[dict]:
    """A row for each phase and stage, the slowest first, means of a step.

    Returns:
        Rows of phase, stage, cpu_ms, wall_ms, gflop and floor_ms, the least time at `peak_gflops`. A backward
        needs twice the operations of its forward.
    """
    rows = []
    for (phase, stage), cpu_s in clock.cpu_s.items():
        if not phase:
            continue
        work = flops.get(stage, 0) * (2 if phase == 'backward' else 1)
        rows.append(
            {
                'phase': phase, 'stage': stage, 'cpu_ms': 1000 * cpu_s / steps,
                'wall_ms': 1000 * clock.wall_s[phase, stage] / steps, 'gflop': work / 1e9,
                'floor_ms': 1e-6 * work / peak_gflops}
        )
    return sorted(rows, key=lambda row: -row['cpu_ms'])
