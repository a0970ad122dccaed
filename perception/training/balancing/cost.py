"""What a balancer costs: processor time of its backward over that of the plain sum."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from .base import StepPlace, build_balancer
from .step import BalancedTraining

PLAIN = 'FixedWeights'


def backward_times(
    model: nn.Module, load: Callable[[], Any], wrapper: OptimWrapper, balancers: Mapping[str, Any], steps: int
) -> list[dict[str, float | str]]:
    """Processor time of the backward of every balancer, in turn on the same batches; weights do not move.

    Args:
        model: in training.
        load: the next batch, as a loader gives it.
        wrapper: whose autocast and scale are used.
        balancers: {title: configuration}; the plain sum comes first on its own.
        steps: batches, after one to warm up.

    Returns:
        A row each of title, ms (median) and times: median of the ratios to the plain sum on the same batch.
    """
    trainings = {
        title: BalancedTraining(build_balancer(config), model)
        for title, config in {PLAIN: dict(type=PLAIN), **balancers}.items()}
    seconds: dict[str, list[float]] = {title: [] for title in trainings}

    for number in range(steps + 1):
        batch = load()
        for title, training in trainings.items():
            # the last step of a pass: MGN works there
            step, _ = training.forward(model, batch, wrapper, StepPlace(number, 0, ends_pass=True))
            seconds[title].append(_timed(lambda: training.balancer.train(step)))  # noqa: B023
            training.shared_map = None
            model.zero_grad()

    plain = seconds[PLAIN][1:]
    return [
        {'balancer': title, 'ms': 1000 * median(taken[1:]),
         'times': median(one / two for one, two in zip(taken[1:], plain, strict=True))}
        for title, taken in seconds.items()]


def _timed(call: Callable[[], None]) -> float:
    # kernels of a GPU run on after the call that started them
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    start = time.process_time()
    call()
    return time.process_time() - start
