"""What every loader of a run gets: workers that end with their parent, and an end to waiting for them."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from ..core.processes import die_with_parent, process_count
from ..registry import DATA_SAMPLERS

TIMEOUT_S = 300.0
"""How long a batch may take where the configuration does not say (`timeout` of a loader; 0 there waits for
ever): a batch is a matter of seconds."""


def guard_loader(loader: DataLoader, timeout_s: float | None) -> DataLoader:
    """Let the workers of a loader die with this process, and stop waiting for a batch at some time.

    Args:
        loader: without iterator yet.
        timeout_s: what the configuration says; None: `TIMEOUT_S`.
    """
    if loader.num_workers:
        loader.timeout = TIMEOUT_S if timeout_s is None else timeout_s
        loader.worker_init_fn = partial(start_worker, os.getpid(), loader.worker_init_fn)
    return loader


def start_worker(parent: int, then: Callable[[int], None] | None, worker: int) -> None:
    """What a worker does first: tie itself to its parent, then what the configuration says."""
    die_with_parent(parent)
    if then is not None:
        then(worker)


def timed_out(error: RuntimeError) -> TimeoutError | None:
    """A clear error in place of torch's about a batch that did not come; None for any other error."""
    if 'DataLoader timed out' not in str(error):
        return None
    return TimeoutError(
        f'no batch came ({error}): a file that does not end, a full /dev/shm, or a slow disk; `timeout` of '
        'the loader in the configuration is how long to wait'
    )


def is_foreign_sampler(sampler: object) -> bool:
    """Whether a loader's configuration names a sampler that cannot begin inside a pass: none of ours."""
    if not isinstance(sampler, Mapping):
        return False
    kind = sampler['type']
    found = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    return not hasattr(found, 'start_at')


def follows_drives(sampler: object) -> bool:
    """Whether a sampler, or its configuration, gives whole drives frame by frame."""
    if isinstance(sampler, Mapping):
        kind = sampler['type']
        sampler = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    return getattr(sampler, 'follows_drives', False)


def with_places(loader: Mapping[str, Any]) -> dict[str, Any]:
    """A loader's configuration whose sampler knows the batch size, where it follows drives."""
    if not follows_drives(loader.get('sampler')):
        return dict(loader)
    return {**loader, 'sampler': {'batch_size': loader.get('batch_size', 1), **loader['sampler']}}


def check_order(name: str, loader: DataLoader, memory: object | None, train: bool) -> None:
    """Refuse frames in an order that a model with a memory cannot use.

    Args:
        name: of the loader in the configuration.
        loader: as it was built.
        memory: of the model; None: any order will do.
        train: a random order of drives will do.

    Raises:
        ValueError: neither whole drives in the order of time nor clips, or a test in random order.
    """
    sampler = getattr(loader, 'sampler', None)  # none where nothing is left to test
    reading = getattr(loader.dataset, 'reading', None)
    if memory is None or sampler is None or getattr(reading, 'clip_frames', 1) > 1:
        return
    if not follows_drives(sampler) or (sampler.shuffle and not train):
        found = type(sampler).__name__
        wanted = 'StreamSampler' if train else 'StreamSampler with shuffle=False'
        raise ValueError(
            f'{name}.sampler: the model has a memory, which needs frames of a drive in the order of time: '
            f'expected {wanted} (or dataset.reading.clip_frames above 1), found {found}'
            + (' with shuffle=True' if getattr(sampler, 'shuffle', False) else ''))


def short_clips(loader: DataLoader, memory: Any) -> str | None:
    """What to say of training clips in which a memory never gets as old as in a drive; None where it does.

    Args:
        loader: of the training.
        memory: the model's `BEVMemory`, or None.
    """
    earlier = getattr(getattr(loader.dataset, 'reading', None), 'clip_frames', 1) - 1
    if memory is None or earlier < 1:
        return None
    name = type(memory).__name__
    has = f'dataset.reading.clip_frames {earlier + 1} shows {earlier} earlier frames'
    if memory.carried:
        return (
            f'{has}, {name} carries on what it has seen over a whole drive: it learns nothing about maps '
            'that are older; train it on streams, or take a MapQueue of as many slots')
    if earlier < memory.slots:
        return f'{has}, {name} has {memory.slots} slots: the others are empty in training and full in a drive'
    return None


def check_not_empty(loader: DataLoader) -> None:
    """Refuse a training that would take no step.

    Raises:
        ValueError: a pass over the data has no batch; names samples, batch size, processes and `drop_last`.
    """
    if len(loader):
        return
    samples = len(loader.dataset)
    raise ValueError(
        f'train_dataloader: nothing to train on: {samples} samples make no batch of {loader.batch_size} on '
        f'{process_count()} processes with drop_last={loader.drop_last}; expected at least '
        f'{(loader.batch_size or 1) * process_count()} samples, or drop_last=False'
    )
