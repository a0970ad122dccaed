"""Kernels of sparse convolutions in published files: two layouts, told apart by their shape."""
from __future__ import annotations

from torch import Tensor

from .turning import Axes

KERNELS = ((3, 3, 3), (3, 1, 1))
"""Of the published encoder, heights first."""


def sparse_kernel(tensor: Tensor, _: Axes) -> Tensor:
    """A kernel as an ordinary convolution has it, `(O, C, height, y, x)`, axes as they are.

    spconv 1 (and mmcv's copy of it, what mmdet3d's published files come from) keeps (height, y, x, C, O);
    spconv 2 keeps (O, height, y, x, C). A file does not say which wrote it.

    Raises:
        ValueError: neither layout, or both fit the shape.
    """
    shape = tuple(tensor.shape)
    first = len(shape) == 5 and shape[:3] in KERNELS
    second = len(shape) == 5 and shape[1:4] in KERNELS
    if first and second:
        raise ValueError(
            f'{shape} is a kernel of spconv 1 (height, y, x, in, out) as well as of spconv 2 (out, height, '
            f'y, x, in), and nothing in the file tells which')
    if not first and not second:
        raise ValueError(
            f'expected a kernel of 3 x 3 x 3 or 3 x 1 x 1, as spconv 1 (height, y, x, in, out) or spconv 2 '
            f'(out, height, y, x, in) has it; found {shape}')
    return tensor.permute(4, 3, 0, 1, 2) if first else tensor.movedim(4, 1)
