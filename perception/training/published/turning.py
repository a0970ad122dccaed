"""Numbers of published weights in our form: axes turned by quarters, another order of a point's numbers.

A head works on a map in ego axes, its weights were trained on one in the sensor's. A convolution of stride 1
on a map turned by quarters, with its kernel turned alike, gives the turned result; what a cell says (an
offset in it, a heading, a velocity) is turned in the last layer: its kernel's rows and its bias.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# our order of a point's numbers in mmdet3d's: x, y, z, intensity, lag, height over the middle, offsets to the
# mean (3) and to the pillar's centre (2)
_FEATURES = (0, 1, 2, 3, 4, 10, 5, 6, 7, 8, 9)
_INTENSITY = 3


@dataclass(frozen=True)
class Axes:
    """The frame of the weights.

    Attributes:
        quarter_turns: from ego to it, counter-clockwise.
        turn: 2 x 2, x and y of a direction in it -> in ego.
        origin_z_m: height of its origin.
    """

    quarter_turns: int
    turn: tuple[tuple[int, ...], ...]
    origin_z_m: float


def kernels(tensor: Tensor, axes: Axes) -> Tensor:
    """A kernel `(O, C, K, K)` for maps in ego axes; a bias stays."""
    return torch.rot90(tensor, -axes.quarter_turns % 4, (2, 3)) if tensor.ndim == 4 else tensor


def offset(tensor: Tensor, axes: Axes) -> Tensor:
    """Place in a cell, x and y: turned about the cell's middle."""
    if tensor.ndim == 4:
        return _turned(kernels(tensor, axes), axes)
    return _turned(tensor - 0.5, axes) + 0.5


def height(tensor: Tensor, axes: Axes) -> Tensor:
    """Height (m), from another origin."""
    return kernels(tensor, axes) if tensor.ndim == 4 else tensor + axes.origin_z_m


def velocity(tensor: Tensor, axes: Axes) -> Tensor:
    """Velocity, x and y."""
    return _turned(kernels(tensor, axes), axes)


def heading(tensor: Tensor, axes: Axes) -> Tensor:
    """Sine and cosine of yaw: y and x of the direction ahead."""
    return _turned(kernels(tensor, axes).flip(0), axes).flip(0)


def point_features(tensor: Tensor, axes: Axes) -> Tensor:
    """A layer `(O, 11)` on a point's numbers, intensity as 0..1 instead of 0..255.

    Raises:
        ValueError: another number of columns.
    """
    if tensor.ndim != 2 or tensor.shape[1] != len(_FEATURES):
        raise ValueError(
            f'expected (O, {len(_FEATURES)}): x, y, z, intensity, time lag, offsets to mean and centre; '
            f'found {tuple(tensor.shape)}')
    ordered = tensor[:, list(_FEATURES)]
    ordered[:, _INTENSITY] *= 255
    return ordered


def _turned(tensor: Tensor, axes: Axes) -> Tensor:
    """The first two rows as x and y, from the sensor's axes into ego."""
    return torch.einsum('oi,i...->o...', tensor.new_tensor(axes.turn), tensor)
