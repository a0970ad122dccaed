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
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..model import MultiTaskPerception


@dataclass
class StageClock:
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


def stages_of(model: MultiTaskPerception) -> dict[str, nn.Module]:
    """The modules that are stages of their own: the parts of each encoder, the fuser, the trunk, the bridge,
    the heads."""
    found = {
        f'{sensor}.{name}': part
        for sensor, encoder in model.encoders.items()
        for name, part in encoder.named_children()
    }
    found |= {'fuser': model.fuser, 'trunk': model.trunk} | (
        {'bridge': model.bridge} if model.bridge is not None else {}
    )
    found |= {f'heads.{task}': head for task, head in model.heads.items()}
    return {name: part for name, part in found.items() if not isinstance(part, nn.Identity)}


@contextmanager
def marked(model: MultiTaskPerception, clock: StageClock) -> Iterator[None]:
    """While it lasts, the model's stages mark their times: modules, and the methods around them."""
    with ExitStack() as stack:
        for name, module in stages_of(model).items():
            stack.callback(
                module.register_forward_pre_hook(lambda _m, _i, n=name: clock.mark('forward', n)).remove
            )
            stack.callback(
                module.register_forward_hook(lambda _m, _i, out, n=name: _mark_backward(out, n, clock)).remove
            )
        for name, part in (*model.encoders.items(), *model.heads.items()):
            for method in ('prepare', 'lift', 'place', 'targets', 'loss', 'decode'):
                if hasattr(part, method):
                    _wrap(part, method, lambda stage=f'{name}.{method}': clock.mark('forward', stage), stack)
        yield


def _wrap(part: nn.Module, method: str, before: Callable[[], None], stack: ExitStack) -> None:
    original = getattr(part, method)

    def timed(*args: Any, **words: Any) -> Any:
        before()
        return original(*args, **words)
    object.__setattr__(part, method, timed)
    stack.callback(lambda: object.__delattr__(part, method))


def _mark_backward(output: Any, stage: str, clock: StageClock) -> None:
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


def training_step(
    model: MultiTaskPerception,
    load: Callable[[], dict],
    optimiser: torch.optim.Optimizer,
    clock: StageClock,
    cast: Callable[[], Any],
) -> None:
    """One step as the Runner makes it: load, pre-process, forward, backward, update."""
    clock.mark('load', 'read, augment, collate')
    batch = load()
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
    model: MultiTaskPerception, load: Callable[[], dict], clock: StageClock, cast: Callable[[], Any]
) -> None:
    """One answer: load, pre-process, network, decode."""
    clock.mark('load', 'read, collate')
    batch = load()
    with marked(model, clock), cast():
        clock.mark('forward', 'preprocess')
        model(**model.data_preprocessor(batch), mode='predict')
    clock.stop()


def forward_flops(model: MultiTaskPerception, batch: dict) -> dict[str, int]:
    """Floating-point operations of each stage's forward (products, convolutions, attention; a multiply-add
    counts two)."""
    counts: dict[str, int] = {}
    # torch's counter stumbles over some that ask for a gradient
    trained = [p for p in model.parameters() if p.requires_grad]
    with ExitStack() as stack:
        stack.callback(lambda: [p.requires_grad_(True) for p in trained])
        model.requires_grad_(False)
        for name, module in stages_of(model).items():
            counter = FlopCounterMode(display=False)
            stack.callback(
                module.register_forward_pre_hook(lambda _m, _i, c=counter: c.__enter__() and None).remove
            )
            stack.callback(
                module.register_forward_hook(
                    lambda _m, _i, _o, c=counter, n=name: (
                        (c.__exit__(None, None, None), counts.update({n: c.get_total_flops()})) and None
                    )
                ).remove
            )
        with torch.no_grad():
            model(**model.data_preprocessor(batch), mode='tensor')
    return counts


def stage_rows(clock: StageClock, steps: int, flops: dict[str, int], peak_gflops: float) -> list[dict]:
    """A row a phase and stage, the slowest first, means of a step: phase, stage, cpu_ms, wall_ms, gflop and
    floor_ms, the least time at `peak_gflops`. A backward needs twice the operations of its forward."""
    rows = []
    for (phase, stage), cpu_s in clock.cpu_s.items():
        work = flops.get(stage, 0) * (2 if phase == 'backward' else 1)
        rows.append({'phase': phase, 'stage': stage, 'cpu_ms': 1000 * cpu_s / steps,
                     'wall_ms': 1000 * clock.wall_s[phase, stage] / steps, 'gflop': work / 1e9,
                     'floor_ms': 1e-6 * work / peak_gflops})
    return sorted((row for row in rows if row['phase']), key=lambda row: -row['cpu_ms'])
