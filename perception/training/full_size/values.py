"""A device without values on which a training step runs all the same: what asks for values gets them aside.

Tensors of the device `meta` stand for those of a GPU. A tensor that was copied there from the CPU (images,
calibrations, points, targets), and whatever is computed from such tensors alone, has its values on the side,
on the CPU: masks and tables have their real sizes. What depends on the network has no values; who asks for
them (a matching, a check) gets zeros, or `True`.

An operation that is given tensors of both devices raises, as it would on a GPU.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

LARGEST = 2 ** 26
"""Elements of a tensor whose values are kept."""
GUESS = 4
"""A mask without values holds one true element in so many."""

# names of torch's operations: a GPU takes these from the CPU, copies and indices
_BETWEEN = {'copy_', '_to_copy', 'index', 'index_put', 'index_put_', '_index_put_impl_'}
# these have as many rows as the values of their input say
_SIZED = {'nonzero', 'masked_select', '_unique2', 'unique_consecutive', 'bincount', 'repeat_interleave'}


class WrongDeviceError(RuntimeError):
    """Tensors of the CPU and of the device met in one operation."""


class ValuesAside(TorchDispatchMode):
    """While it lasts, tensors of `meta` behave as above.

    Args:
        seen: called with each operation, its arguments and its result on `meta`.

    Raises:
        WrongDeviceError: names the operation and the shapes; its traceback leads to the line.
    """

    def __init__(self, seen: Callable[[Any, tuple, dict, Any], None] | None = None) -> None:
        super().__init__()
        self._values = WeakTensorKeyDictionary()
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        packet = func.overloadpacket.__name__
        tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
        on_meta = any(tensor.is_meta for tensor in tensors) or str(kwargs.get('device')) == 'meta'
        if not on_meta:
            return func(*args, **kwargs)
        if packet not in _BETWEEN:
            _check_devices(func, tensors)

        values = self._compute_aside(func, tensors, args, kwargs)
        result = self._run(func, packet, args, kwargs, values)
        self._keep(result, values, func, args)
        if self._seen is not None:
            self._seen(func, args, kwargs, result)
        return result

    def _compute_aside(self, func: Any, tensors: list[Tensor], args: tuple, kwargs: dict) -> Any:
        """The operation on the CPU, where the values of all its tensors are known; None otherwise."""
        if any(tensor.is_meta and tensor not in self._values for tensor in tensors):
            return None
        if not tensors and _numel(args) > LARGEST:
            return None

        def aside(value: Any) -> Any:
            return self._values[value] if isinstance(value, Tensor) and value.is_meta else value

        args, kwargs = tree_map(aside, (args, kwargs))
        if 'device' in kwargs:
            kwargs = {**kwargs, 'device': torch.device('cpu')}
        return func(*args, **kwargs)

    def _run(self, func: Any, packet: str, args: tuple, kwargs: dict, values: Any) -> Any:
        """The operation on `meta`; what needs values takes them from the side or makes them up."""
        if packet == '_local_scalar_dense':
            return _made_up_number(args[0]) if values is None else values
        if packet in ('equal', 'allclose'):
            return True if values is None else values
        if packet == '_to_copy' and str(kwargs.get('device')) == 'cpu':
            if values is not None:
                return values.clone()
            return torch.zeros(args[0].shape, dtype=kwargs.get('dtype') or args[0].dtype)

        has_masks = packet in ('index', 'index_put', 'index_put_') and any(
            part is not None and part.dtype in (torch.bool, torch.uint8) for part in args[1])
        if packet in _SIZED or (packet == 'index' and has_masks):
            if values is not None:
                return tree_map(lambda part: part.to('meta') if isinstance(part, Tensor) else part, values)
            if packet in _SIZED:
                rows = _made_up_rows(packet, args, kwargs)
                if packet == 'bincount':
                    self._values[rows] = _even_parts(args[0].numel(), len(rows))
                return rows
        if has_masks:
            args = (args[0], self._without_masks(args[1]), *args[2:])
        return func(*args, **kwargs)

    def _without_masks(self, indices: list[Tensor | None]) -> list[Tensor | None]:
        """Masks as the indices of their true elements, as many as the values or the guess say."""
        result: list[Tensor | None] = []
        for part in indices:
            if part is None or part.dtype not in (torch.bool, torch.uint8):
                result.append(part)
                continue
            known = part in self._values if part.is_meta else True
            mask = self._values[part] if part.is_meta and known else part
            rows = int(mask.count_nonzero()) if known else _guess(part)
            result += [torch.empty(rows, dtype=torch.int64, device='meta') for _ in range(part.ndim)]
        return result

    def _keep(self, result: Any, values: Any, func: Any, args: tuple) -> None:
        """Remember the values of results; forget those of a tensor that something unknown was written to."""
        if values is None:
            writes = func.overloadpacket.__name__.endswith('_')
            if writes and isinstance(args[0], Tensor) and args[0] in self._values:
                del self._values[args[0]]
            return
        for part, value in zip(tree_flatten(result)[0], tree_flatten(values)[0], strict=True):
            if isinstance(part, Tensor) and part.is_meta and value.numel() <= LARGEST:
                self._values[part] = value


def _check_devices(func: Any, tensors: list[Tensor]) -> None:
    """A number of the CPU may meet any device; a tensor may not."""
    strangers = [tensor for tensor in tensors if not tensor.is_meta and tensor.ndim]
    if strangers:
        here = ', '.join(f'{tuple(t.shape)} {t.dtype}' for t in strangers)
        there = ', '.join(f'{tuple(t.shape)} {t.dtype}' for t in tensors if t.is_meta)
        raise WrongDeviceError(f'{func}: tensors on the CPU ({here}) meet tensors on the device ({there})')


def _numel(args: tuple) -> int:
    shape = args[0] if args and isinstance(args[0], (list, tuple)) else ()
    return int(torch.Size(shape).numel()) if all(isinstance(size, int) for size in shape) else 0


def _guess(mask: Tensor) -> int:
    return max(1, mask.numel() // GUESS)


def _made_up_number(tensor: Tensor) -> bool | int | float:
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.is_floating_point() else 1


def _made_up_rows(packet: str, args: tuple, kwargs: dict) -> Any:
    """Results of a guessed size."""
    def empty(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device='meta')

    source = args[0]
    if packet == 'nonzero':
        return empty(_guess(source), source.ndim)
    if packet == 'bincount':
        return empty(max(1, kwargs.get('minlength', args[2] if len(args) > 2 else 0)))
    if packet in ('_unique2', 'unique_consecutive'):
        return empty(min(source.numel(), 16), dtype=source.dtype), empty(*source.shape), empty(16)
    return empty(_guess(source), dtype=source.dtype)


def _even_parts(total: int, parts: int) -> Tensor:
    """`total` things in `parts` heaps as equal as can be."""
    return torch.tensor([total // parts + (part < total % parts) for part in range(parts)])


@contextmanager
def autocast_passes_meta() -> Iterator[None]:
    """`torch.autocast` for the device `meta` does nothing; torch itself would refuse that device."""
    real = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == 'meta' else real(device_type, *args, **kwargs)

    torch.autocast = autocast
    try:
        yield
    finally:
        torch.autocast = real
