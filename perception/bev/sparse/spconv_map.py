"""Active cells in the kernels of spconv, of the extra [sparse]; weights and numbers are those of `RowMap`."""
from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .maps import ActiveMap, ConvNorm, RowMap, norm_rows
from .places import ConvWindow


class SpconvMap(ActiveMap):
    """A `SparseConvTensor` and how many strided convolutions lie behind it.

    Args:
        tensor: spconv's.
        level: 0 for the grid of the pillars or voxels.
    """

    def __init__(self, tensor: Any, level: int = 0) -> None:
        self.tensor = tensor
        self.level = level

    @classmethod
    def of(cls, rows: RowMap) -> SpconvMap:
        """The same map.

        Raises:
            ModuleNotFoundError: spconv is not installed.
        """
        spconv = load_spconv()
        b, *shape = rows.places.shape
        indices = torch.stack(rows.places.split(), 1).int()
        return cls(spconv.SparseConvTensor(rows.rows_MC, indices, shape, b))

    def conv_norm(self, layer: ConvNorm) -> SpconvMap:
        """Convolution and norm; one table for all submanifold convolutions of a level."""
        level = self.level + (not layer.window.submanifold)
        conv = _convolution(*layer.conv.weight.shape[:2], layer.window, level)
        weight = layer.conv.weight.movedim(1, -1).contiguous()  # spconv keeps inputs innermost
        tensor = functional_call(conv, {'weight': weight}, (self.tensor,))
        return SpconvMap(tensor.replace_feature(norm_rows(layer.norm, tensor.features)), level)

    def relu(self) -> SpconvMap:
        """Negative values become zero."""
        return SpconvMap(self.tensor.replace_feature(F.relu(self.tensor.features)), self.level)

    def plus(self, other: SpconvMap) -> SpconvMap:
        """The sum of two maps with the same cells in the same order."""
        rows = self.tensor.features + other.tensor.features
        return SpconvMap(self.tensor.replace_feature(rows), self.level)

    def dense(self) -> Tensor:
        """The whole map."""
        return self.tensor.dense()


def load_spconv() -> Any:
    """The module `spconv.pytorch`.

    Raises:
        ModuleNotFoundError: says what to install.
    """
    try:
        import spconv.pytorch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the implementation spconv needs its package ({error}): pip install -e ".[sparse]", or the '
            f'build of your CUDA version (spconv-cu124, say)', name=error.name) from error
    return spconv.pytorch


@lru_cache
def _built_for_gpus() -> bool:
    """Whether the installed spconv has kernels of a GPU; its plain wheel has none."""
    if find_spec('spconv') is None:
        return False
    from spconv.cppconstants import CPU_ONLY_BUILD
    return not CPU_ONLY_BUILD


def spconv_serves(device: torch.device) -> bool:
    """Whether the installed spconv trains on a device: with its builds for GPUs, on GPUs."""
    return device.type == 'cuda' and _built_for_gpus()


@lru_cache
def _convolution(outputs: int, inputs: int, window: ConvWindow, level: int) -> nn.Module:
    """The layer of spconv; its own weight is never read and has no values."""
    spconv, axes = load_spconv(), len(window.size)
    options = {'padding': list(window.padding), 'bias': False}
    with torch.device('meta'):
        if window.submanifold:
            layer = getattr(spconv, f'SubMConv{axes}d')
            return layer(inputs, outputs, list(window.size), indice_key=f'level_{level}', **options)
        layer = getattr(spconv, f'SparseConv{axes}d')
        return layer(inputs, outputs, list(window.size), stride=list(window.stride), **options)
