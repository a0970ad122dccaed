"""Heatmaps and box codes of several forwards -> one: mirrored back, then averaged cell by cell."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.grid import BEVGrid
from ...core.protocols import ATTRIBUTES
from ..averaging import Mirror, mean_log_softmax, mean_logits, mean_values, mirror_map
from .targets import BOX_CODE, HEADING

_SIZE = slice(BOX_CODE.index('log_length'), BOX_CODE.index('log_height') + 1)
_MIRRORED = {'x': ('offset_x', ('cos_yaw', 'vx_mps')), 'y': ('offset_y', ('sin_yaw', 'vy_mps'))}
"""By axis: the offset, which counts from the cell's other side, and what changes its sign."""


def mirror_codes(raw: dict[str, Tensor], grid: BEVGrid, mirror: Mirror) -> dict[str, Tensor]:
    """The raw outputs of the mirrored world -> of the world as it is."""
    maps = {name: mirror_map(raw[name], grid, mirror) for name in ('heatmap', 'box', 'attribute')}
    codes = maps['box'].unflatten(1, (-1, len(BOX_CODE))).clone()
    for axis, flips in (('x', mirror.flip_x), ('y', mirror.flip_y)):
        if not flips:
            continue
        offset, signed = _MIRRORED[axis]
        codes[:, :, BOX_CODE.index(offset)] = 1 - codes[:, :, BOX_CODE.index(offset)]
        for name in signed:
            codes[:, :, BOX_CODE.index(name)] *= -1
    return {**maps, 'box': codes.flatten(1, 2)}


def average_codes(raws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several forwards, as CenterPoint averages its flips (arXiv 2006.11275, released code).

    Of scores, sizes, offsets, heights and velocities the plain mean. A heading is the mean axis, turned to
    where most point: forwards that disagree by half a turn do not cancel to noise. Of attributes the mean of
    the softmax.
    """
    codes = [raw['box'].unflatten(1, (-1, len(BOX_CODE))) for raw in raws]
    box = mean_values(codes)
    # the mean of metres; an untrained network may predict any size, see `decode_codes`
    box[:, :, _SIZE] = mean_values([code[:, :, _SIZE].float().clamp(-5, 5).exp() for code in codes]).log()
    box[:, :, HEADING] = mean_heading([code[:, :, HEADING] for code in codes])

    attributes = [raw['attribute'].unflatten(1, (-1, len(ATTRIBUTES))) for raw in raws]
    return {
        'heatmap': mean_logits([raw['heatmap'] for raw in raws]), 'box': box.flatten(1, 2),
        'attribute': mean_log_softmax(attributes, 2).flatten(1, 2)}


def mean_heading(headings: Sequence[Tensor]) -> Tensor:
    """Sines and cosines `(B, G, 2, Y, X)` of several forwards -> those of one direction, length 1."""
    sin_cos = torch.stack([heading.float() for heading in headings])
    sin, cos = sin_cos[:, :, :, 0], sin_cos[:, :, :, 1]

    # directions that differ by half a turn have the same double angle
    twice = torch.atan2((2 * sin * cos).nansum(0), (cos * cos - sin * sin).nansum(0))
    axis = torch.stack([(twice / 2).sin(), (twice / 2).cos()], 2)

    along = (sin_cos.nansum(0) * axis).sum(2, keepdim=True)
    first = (sin_cos[0].nan_to_num(0) * axis).sum(2, keepdim=True)
    return torch.where(torch.where(along == 0, first, along) < 0, -axis, axis)
