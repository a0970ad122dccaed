"""Files of a training in its work dir: which is the newest whole one, and what may be written over it."""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ...core.checkpoint import read_checkpoint
from ...core.files import write_text

POINTER = 'last_checkpoint'
PARTIAL = '.partial'


def training_checkpoints(work_dir: str | Path) -> list[Path]:
    """Checkpoints of a training in a work dir, by name: those of whole epochs or steps, not the best ones."""
    return sorted(
        path for path in Path(work_dir).glob('*.pth')
        if path.stem.startswith(('epoch_', 'iter_')) and path.stem.split('_')[-1].isdigit()
    )


def newest_checkpoint(work_dir: str | Path) -> tuple[Path | None, list[str]]:
    """What `--resume` goes on from.

    That is what `last_checkpoint` names, where it can be read, else the one that has come furthest.

    Returns:
        The file, None where there is none, and a line for each that could not be read.
    """
    work_dir, notes = Path(work_dir), []
    pointed = pointed_checkpoint(work_dir)
    if pointed is not None:
        if _how_far(pointed, notes) is not None:
            return pointed, notes
    elif training_checkpoints(work_dir):
        notes.append(f'{work_dir / POINTER}: absent; the newest whole checkpoint is looked for')

    others = [path for path in training_checkpoints(work_dir) if path != pointed]
    reached = [(steps, path) for path in others if (steps := _how_far(path, notes)) is not None]
    return (max(reached)[1] if reached else None), notes


def pointed_checkpoint(work_dir: Path) -> Path | None:
    """The file that `last_checkpoint` names, also where the work dir has moved since."""
    pointer = work_dir / POINTER
    if not pointer.is_file():
        return None
    named = Path(pointer.read_text(encoding='utf-8').strip())
    if (work_dir / named).is_file():
        return work_dir / named
    return work_dir / named.name


def point_to(work_dir: str | Path, checkpoint: str | Path) -> None:
    """Write `last_checkpoint`, relative to the work dir, whole or not at all."""
    write_text(Path(work_dir) / POINTER, os.path.relpath(checkpoint, work_dir))


def _how_far(path: Path, notes: list[str]) -> int | None:
    """Steps that a checkpoint has come; None, and a line, where it cannot be gone on from."""
    try:
        checkpoint = read_checkpoint(path)
    except (FileNotFoundError, ValueError) as error:
        notes.append(f'passed over: {error}')
        return None
    if 'optimizer' not in checkpoint:
        notes.append(f'passed over: checkpoint {path}: no state of the optimiser in it')
        return None
    return int(checkpoint.get('meta', {}).get('iter', 0))


def remove_unfinished(work_dir: str | Path) -> None:
    """Remove what a killed training was writing."""
    for path in Path(work_dir).glob(f'*.pth{PARTIAL}'):
        path.unlink()


def discard_training(work_dir: str | Path) -> list[Path]:
    """Remove the checkpoints of an earlier training, for one that starts over; gives their names."""
    files = training_checkpoints(work_dir)
    for path in [*files, Path(work_dir) / POINTER]:
        path.unlink(missing_ok=True)
    return files


def spoiled_tensor(checkpoint: Mapping[str, Any]) -> str | None:
    """Name of the first tensor of weights, averages or optimiser with a value that is not finite."""
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        for name, tensor in _tensors(checkpoint.get(part, {}), part):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                return name
    return None


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f'{name}.{key}')
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _tensors(item, f'{name}.{number}')
