"""Checkpoints that never execute code: read with `weights_only`, written whole or not at all."""
from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn

from .reading import check_unpacked

CHECKPOINT_MIB = 65536
"""Largest checkpoint, unpacked."""
TUPLE_DEPTH = 20
"""Deepest tuples in tuples. A real checkpoint has a few; each level may double the time of a hash."""
_OLD_PICKLES = 4
"""Pickles at the start of a file of torch before its zip format: magic number, version, system, content."""
_OLD_MAGIC = bytes.fromhex('6cfc9c46f9206aa85019')
"""The first of them holds this number, within a few bytes."""
OPCODES = 3_000_000
"""Most steps of a pickle's program; following them takes seconds. Each tensor of a checkpoint has ten."""


def _safe_globals() -> list[Any]:
    """What mmengine puts beside the weights (logged histories): plain arrays, nothing that runs."""
    from mmengine.logging.history_buffer import HistoryBuffer

    rebuild_array = np.zeros(0).__reduce__()[0]
    rebuild_scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'i4', 'u1', 'bool')]
    return [
        HistoryBuffer, (_history_method, 'builtins.getattr'), rebuild_array, rebuild_scalar, np.ndarray,
        np.dtype, *dtypes]


def _history_method(owner: Any, name: str) -> Any:
    """What a logged history may fetch by name when it is read back: its own four statistics, nothing else."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise ValueError(f'a checkpoint may not fetch {name!r} of {owner!r}')


def read_checkpoint(path: str | Path, map_location: str | torch.device = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Returns:
        A dictionary with at least `state_dict`; a bare state dict is wrapped into one, one by the name of
        `model` (as some publish it) stands there too.

    Raises:
        FileNotFoundError: no such file. ValueError: truncated, it holds more than tensors and plain values,
        its state dict is no dictionary of tensors, or a weight is no real, finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path}: no such file')

    try:
        _check_unpacked_size(path)
        _check_tuples(path)
        with torch.serialization.safe_globals(_safe_globals()):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise ValueError(
            f'checkpoint {path}: expected a file of tensors and plain values, could not read it safely: '
            f'{_reason(error)}'
        ) from error

    if not isinstance(checkpoint, dict):
        raise ValueError(f'checkpoint {path}: expected a dictionary, found {type(checkpoint).__name__}')
    if 'state_dict' not in checkpoint and isinstance(checkpoint.get('model'), dict):
        checkpoint = {**checkpoint, 'state_dict': checkpoint['model']}
    if 'state_dict' not in checkpoint:
        checkpoint = {'state_dict': checkpoint, 'meta': {}}
    _check_state(path, checkpoint['state_dict'])
    return checkpoint


def _check_unpacked_size(path: Path) -> None:
    """A file of torch is a zip archive whose entries are not packed: one that unpacks to far more is none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        check_unpacked(path, path.stat().st_size, unpacked, CHECKPOINT_MIB)


def _check_tuples(path: Path) -> None:
    """Raise ValueError where tuples lie in tuples so deep that one as a key is never done with its hash."""
    if not zipfile.is_zipfile(path):
        with path.open('rb') as file:
            if _OLD_MAGIC not in file.read(40):
                raise ValueError('it is not a file of torch, neither a zip archive nor of the older kind')
            file.seek(0)
            deepest = max(_tuple_depth(file) for _ in range(_OLD_PICKLES))
    else:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith('data.pkl')]
            deepest = max((_tuple_depth(archive.open(name)) for name in names), default=0)

    if deepest > TUPLE_DEPTH:
        raise ValueError(f'tuples lie in tuples {deepest} deep, expected at most {TUPLE_DEPTH}')


def _tuple_depth(file: BinaryIO) -> int:
    """How deep tuples lie in tuples in one pickle, at most: its program is followed, never executed.

    What stands for each object is the depth of the tuples in it.

    Raises:
        ValueError: the program has more than `OPCODES` steps.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    deepest = 0

    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if step >= OPCODES:
            raise ValueError(f'its pickle has more than {OPCODES:,} steps, many more than tensors need')
        name, taken = opcode.name, opcode.stack_before
        if name == 'MARK':
            marks.append(len(stack))
            continue
        if name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            memo[len(memo) if name == 'MEMOIZE' else argument] = stack[-1]
            continue
        if name in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(memo[argument])
            continue

        # what it takes off the stack: all since the last mark, or a fixed count
        below = taken.index(pickletools.markobject) if pickletools.markobject in taken else len(taken)
        first = (marks.pop() if below < len(taken) else len(stack)) - below
        depth = max(stack[first:], default=0) + ('TUPLE' in name and name != 'EMPTY_TUPLE')
        del stack[first:]
        stack += [depth] * len(opcode.stack_after)
        deepest = max(deepest, depth)
    return deepest


def _check_state(path: Path, state: Any) -> None:
    """Raise ValueError unless a state dict has tensors of real, finite numbers by name."""
    if not isinstance(state, Mapping):
        raise ValueError(
            f'checkpoint {path}: state_dict: expected tensors by name, found {type(state).__name__}'
        )

    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f'checkpoint {path}: expected a state dict of tensors by name, found {name!r:.80}: '
                f'{type(tensor).__name__}'
            )
        if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided:
            raise ValueError(
                f'checkpoint {path}: {name}: expected plain real numbers, found {tensor.dtype}, '
                f'{tensor.layout}'
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f'checkpoint {path}: {name}: {count} of {tensor.numel()} numbers are NaN or infinite'
            )


def _reason(error: Exception) -> str:
    """The telling line of torch's long message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return next((line for line in lines if 'WeightsUnpickler error' in line), first)


def load_weights(model: nn.Module, path: str | Path, strict: bool = True) -> dict[str, Any]:
    """Load the weights of a checkpoint into a model of the same configuration.

    EMA weights are used where the file has them.

    Raises:
        ValueError: names the first parameters that are missing, not expected, or of another shape; or boxes
            of other classes.
    """
    checkpoint = read_checkpoint(path)
    check_trained_classes(model, checkpoint, f'checkpoint {path}')
    match_weights(model, checkpoint['state_dict'], str(path), strict)
    return checkpoint


def check_trained_classes(model: nn.Module, checkpoint: Mapping[str, Any], source: str) -> None:
    """Refuse weights that were trained for boxes of other classes: as many fit, and mean other names.

    A training writes the classes of its data beside the weights; a file that says nothing is taken.

    Args:
        model: whose detection head says its classes, if it has one.
        checkpoint: from `read_checkpoint`.
        source: of it, for the message.

    Raises:
        ValueError: the classes of the two differ, or their order does.
    """
    expected, found = model_classes(model), trained_classes(checkpoint)
    if expected is None or found is None or found == expected:
        return
    raise ValueError(
        f'{source}: was trained for boxes of the classes {", ".join(map(str, found))}; expected those of '
        f'this configuration: {", ".join(expected)} (key detection_classes)')


def model_classes(model: nn.Module) -> tuple[str, ...] | None:
    """The classes of boxes of a model's detection head; None without one."""
    heads = getattr(model, 'heads', {})
    head = heads['detection'] if 'detection' in heads else None
    names = getattr(getattr(head, 'classes', None), 'names', None)
    return None if names is None else tuple(names)


def trained_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes of boxes that a file was trained for; None where it does not say."""
    found = kept_meta(checkpoint).get('dataset_meta', {}).get('classes')
    return tuple(found) if isinstance(found, (list, tuple)) else None


def kept_meta(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a file that is made from a checkpoint takes over of its meta: the data that it was trained on.

    That is its classes (`check_trained_classes`) and version; a file that says nothing gives nothing.
    """
    meta = checkpoint.get('meta')
    data = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    if not isinstance(data, Mapping):
        return {}
    return {'dataset_meta': {
        key: value for key, value in data.items() if key == 'version' or str(key).endswith('classes')}}


def match_weights(
    model: nn.Module, weights: dict[str, torch.Tensor], source: str, strict: bool = True
) -> None:
    """Copy `weights` into `model`, or say exactly what does not fit and copy nothing.

    Raises:
        ValueError: names up to five parameters of each kind of mismatch.
    """
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    state = model.state_dict()
    shapes = [
        f'{name}: file {tuple(weights[name].shape)}, model {tuple(state[name].shape)}'
        for name in state if name in weights and weights[name].shape != state[name].shape]
    types = [
        f'{name}: file {weights[name].dtype}, model {tensor.dtype}' for name, tensor in state.items()
        if name in weights and weights[name].is_floating_point() != tensor.is_floating_point()]
    missing = [n for n in state if n not in weights and not n.startswith('data_preprocessor.')]
    extra = [n for n in weights if n not in state and not n.startswith('data_preprocessor.')]

    if shapes or types or (strict and (missing or extra)):
        kinds = {
            'other shape': shapes, 'other type': types, 'missing in the file': missing,
            'unknown to the model': extra}
        parts = [
            f'{title} {len(names)}: {"; ".join(names[:5])}{" ..." if len(names) > 5 else ""}'
            for title, names in kinds.items() if names]
        raise ValueError(
            f'checkpoint {source} was made with another configuration or version: ' + ' | '.join(parts)
        )
    model.load_state_dict(weights, strict=False)


def load_shared(
    model: nn.Module, weights: Mapping[str, torch.Tensor], prefix: str = 'encoders.'
) -> tuple[int, list[str]]:
    """Copy the weights below `prefix` that match by name and shape.

    Where the model's batch norms keep one running mean and the file's keep one for each set of sensors
    (`SensorNorm`), that of all sensors is taken.

    Returns:
        How many tensors were copied, and the names below `prefix` that keep what they had.
    """
    state = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    candidates = {
        name: of_all_sensors(name, weights[name], tensor)
        for name, tensor in state.items() if name in weights}
    fitting = {name: tensor for name, tensor in candidates.items() if tensor.shape == state[name].shape}
    model.load_state_dict(fitting, strict=False)
    return len(fitting), [name for name in state if name not in fitting]


def of_all_sensors(name: str, in_file: torch.Tensor, in_model: torch.Tensor) -> torch.Tensor:
    """A tensor of a file, for a norm that keeps running statistics by other sets of sensors, or by none.

    Of statistics by sets the last row, that of all sensors, serves a norm without; a norm with sets begins
    with the file's in every row. Where the model has sensors behind those of the file, a set begins with the
    statistics of its sensors that the file knows, and with those of all where it knows none. Where it has
    fewer, they are the file's first ones, and a set begins with that of the same sensors alone.
    """
    if not name.endswith(('running_mean', 'running_var')):
        return in_file
    if in_file.ndim == in_model.ndim + 1:
        return in_file[-1]
    if in_file.ndim + 1 == in_model.ndim and in_file.shape == in_model.shape[1:]:
        return in_file.expand(in_model.shape)

    # (fewer sets, C) -> (S, C); bit i of a row says that sensor i is there
    if in_file.ndim == in_model.ndim == 2 and len(in_file) < len(in_model):
        known = torch.arange(len(in_model)) % len(in_file)
        return in_file[torch.where(known == 0, len(in_file) - 1, known)]
    if in_file.ndim == in_model.ndim == 2 and in_file.shape[1:] == in_model.shape[1:]:
        return in_file[:len(in_model)]
    return in_file


def extract_weights(path: str | Path, prefix: str, half: bool = False) -> dict[str, Any]:
    """The part of a checkpoint below a prefix, ready to be saved.

    Args:
        path: the checkpoint.
        prefix: of the parameters' names.
        half: floating-point tensors as float16, half the file; they are float32 again once a model has loaded
            them.

    Returns:
        `state_dict`, and a `meta` that says where it is from and which classes it was trained for.

    Raises:
        FileNotFoundError, ValueError: from `read_checkpoint`; ValueError also when nothing lies below
        `prefix`, or a number is too large for float16.
    """
    checkpoint = read_checkpoint(path)
    state = checkpoint['state_dict']
    weights = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not weights:
        raise ValueError(f'checkpoint {path}: expected weights below {prefix!r}, found none')

    if half:
        weights = {
            name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()
        }
        broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise ValueError(f'checkpoint {path}: {broken[0]} does not fit into float16')

    meta = {'source': Path(path).name, 'prefix': prefix, **kept_meta(checkpoint)}
    return {'state_dict': weights, 'meta': meta}
