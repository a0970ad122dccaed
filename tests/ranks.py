"""Several processes of one group, as torchrun starts them, but forked from one that has the imports."""
from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist


def run_ranks(function: Callable[..., object], *arguments: object, processes: int = 2) -> None:
    """Call `function(*arguments)` once a rank, in an environment that is torchrun's.

    Args:
        function: stands at the top of a module; it may make the process group itself.
        arguments: the same for every rank.
        processes: how many ranks.

    Raises:
        AssertionError: a rank failed; holds its traceback.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]

    context = get_context('forkserver')
    context.set_forkserver_preload(['perception.training.launch', 'perception.evaluation.metrics'])
    said = context.SimpleQueue()
    ranks = [context.Process(target=_run, args=(said, function, arguments, rank, processes, port))
             for rank in range(processes)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(240)
        process.kill()

    failures = [] if said.empty() else [said.get()]
    assert not failures and all(process.exitcode == 0 for process in ranks), '\n'.join(failures)


def _run(
    said: Any, function: Callable[..., object], arguments: tuple, rank: int, processes: int, port: int
) -> None:
    os.environ |= {
        'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(processes), 'OMP_NUM_THREADS': '1',
        'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    torch.set_num_threads(1)
    try:
        function(*arguments)
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
    except BaseException:
        said.put(f'rank {rank}: {traceback.format_exc()}')
        raise
