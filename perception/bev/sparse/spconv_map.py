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
from .places import KERNEL


class SpconvMap(ActiveMap):
    """A `SparseConvTensor` and how often it was halved.

    Args:
        tensor: spconv's.
        level: 0 for the pillars' own grid.
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
        b, y, x = rows.places.shape_BYX
        indices = torch.stack(rows.places.split(), 1).int()
        return cls(spconv.SparseConvTensor(rows.rows_MC, indices, [y, x], b))

    def conv_norm(self, layer: ConvNorm) -> SpconvMap:
        """Convolution and norm; one table for all submanifold convolutions of a level."""
        level = self.level + (layer.stride == 2)
        conv = _convolution(*layer.conv.weight.shape[:2], layer.stride, level)
        weight = layer.conv.weight.permute(0, 2, 3, 1).contiguous()  # spconv keeps inputs innermost
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
        """`(B, C, Y, X)`."""
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
def _convolution(outputs: int, inputs: int, stride: int, level: int) -> nn.Module:
    """The layer of spconv; its own weight is never read and has no values."""
    spconv = load_spconv()
    options = {'padding': KERNEL // 2, 'bias': False}
    with torch.device('meta'):
        if stride == 1:
            return spconv.SubMConv2d(inputs, outputs, KERNEL, indice_key=f'level_{level}', **options)
        return spconv.SparseConv2d(inputs, outputs, KERNEL, stride=2, **options)
