"""Raw occupancy logits -> voxels in Occ3D order."""
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from ...core.contracts import Occupancy
from ...core.threads import run_shares
from .voxels import CLASSES

_CELLS = 512  # the logits of one height of so many cells stay in the processor's nearest caches


def decode_occupancy(logits_BCYX: Tensor, shape_YX: tuple[int, int]) -> list[Occupancy]:
    """Logits `(B, Z * 18, y, x)`, channel z * 18 + class -> per sample the likeliest class `(X, Y, Z)` and
    its softmax.

    Logits of coarser cells are read bilinearly (align_corners=False). On a CPU one compiled loop does all of
    it and never holds the fine logits; elsewhere, torch does.
    """
    one_sample = decode_compiled if logits_BCYX.device.type == 'cpu' else decode_readable
    return [one_sample(one, shape_YX) for one in logits_BCYX.detach()]


def decode_readable(logits_CYX: Tensor, shape_YX: tuple[int, int]) -> Occupancy:
    """One sample, by torch on any device."""
    logits_CYX = logits_CYX.float()
    if tuple(logits_CYX.shape[1:]) != tuple(shape_YX):
        logits_CYX = F.interpolate(
            logits_CYX[None], size=tuple(shape_YX), mode='bilinear', align_corners=False
        )[0]
    # height by height, so that the numbers of one stay in the processor's cache
    answers = [_likeliest(one) for one in logits_CYX.unflatten(0, (-1, CLASSES))]
    label, confidence = (torch.stack(part) for part in zip(*answers, strict=True))
    return Occupancy(_to_XYZ(label, np.uint8), _to_XYZ(confidence, np.float16))


def decode_compiled(logits_CYX: Tensor, shape_YX: tuple[int, int], threads: int | None = None) -> Occupancy:
    """One sample, by a compiled loop on the CPU: the same classes, the same confidence to float16's last
    digit.

    Args:
        threads: which share the ground between them; as many as torch may use by default.
    """
    y, x = shape_YX
    label_XYZ = np.empty((x, y, logits_CYX.shape[0] // CLASSES), dtype=np.uint8)
    bits_XYZ = np.empty(label_XYZ.shape, dtype=np.uint16)
    logits = logits_CYX.float().contiguous().numpy()
    if logits.shape[1:] == (y, x):
        run_shares(
            y * x, _decode_cells, logits.reshape(len(logits), y * x), label_XYZ, bits_XYZ, threads=threads
        )
    else:
        rows, columns = _between(y, logits.shape[1]), _between(x, logits.shape[2])
        run_shares(y, _decode_rows, logits, *rows, *columns, label_XYZ, bits_XYZ, threads=threads)
    return Occupancy(label_XYZ, bits_XYZ.view(np.float16))


def _between(fine: int, coarse: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of `fine` cells lie among `coarse` ones of the same length: lower neighbour, share of
    the next."""
    place = np.clip((np.arange(fine) + 0.5) * (coarse / fine) - 0.5, 0, coarse - 1)
    low = place.astype(np.int64)
    return low, (place - low).astype(np.float32)


def _likeliest(logits_CYX: Tensor) -> tuple[Tensor, Tensor]:
    best, label = logits_CYX.max(0)
    return label.to(torch.uint8), 1 / torch.exp(logits_CYX - best).sum(0)


def _to_XYZ(values_ZYX: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values_ZYX.cpu().numpy().transpose(2, 1, 0).astype(dtype))


@njit(cache=True, nogil=True)
def _decode_cells(logits_CG, label_XYZ, bits_XYZ, first, last):
    """Cells first to last (row by row) of logits that have the answer's cells."""
    x_size, _, heights = label_XYZ.shape
    best, total = np.empty(_CELLS, np.float32), np.empty(_CELLS, np.float32)
    chosen = np.empty((heights, _CELLS), np.int32)  # as wide as a logit: one kind of vector
    halves = np.empty((heights, _CELLS), np.uint16)
    for start in range(first, last, _CELLS):
        count = min(_CELLS, last - start)
        for z in range(heights):
            _decode_height(logits_CG, z * CLASSES, start, count, best, total, chosen[z], halves[z])
        for i in range(count):
            y, x = divmod(start + i, x_size)
            for z in range(heights):
                label_XYZ[x, y, z] = chosen[z, i]
                bits_XYZ[x, y, z] = halves[z, i]


@njit(cache=True, nogil=True)
def _decode_rows(logits_CYX, y_low, y_share, x_low, x_share, label_XYZ, bits_XYZ, first, last):
    """Rows first to last of the answer from coarser logits: two coarse rows at a time are brought to the
    answer's columns."""
    x_size, _, heights = label_XYZ.shape
    best, total = np.empty(x_size, np.float32), np.empty(x_size, np.float32)
    chosen, halves = np.empty((heights, x_size), np.int32), np.empty((heights, x_size), np.uint16)
    wide, held = np.empty((2, len(logits_CYX), x_size), np.float32), np.array([-1, -1])
    fine = np.empty((CLASSES, x_size), np.float32)
    for y in range(first, last):
        low, high = y_low[y], min(y_low[y] + 1, logits_CYX.shape[1] - 1)
        for row in (low, high):
            if held[row % 2] != row:
                held[row % 2] = row
                _widen(logits_CYX, row, x_low, x_share, wide[row % 2])
        for z in range(heights):
            for c in range(CLASSES):
                _blend(wide[low % 2, z * CLASSES + c], wide[high % 2, z * CLASSES + c], y_share[y], fine[c])
            _decode_height(fine, 0, 0, x_size, best, total, chosen[z], halves[z])
        for x in range(x_size):
            for z in range(heights):
                label_XYZ[x, y, z] = chosen[z, x]
                bits_XYZ[x, y, z] = halves[z, x]


@njit(cache=True, nogil=True)
def _widen(logits_CYX, row, x_low, x_share, wide_CX):
    last = logits_CYX.shape[2] - 1
    for c in range(len(logits_CYX)):
        for x in range(len(x_low)):
            left, right = logits_CYX[c, row, x_low[x]], logits_CYX[c, row, min(x_low[x] + 1, last)]
            wide_CX[c, x] = left + x_share[x] * (right - left)


@njit(cache=True, nogil=True)
def _blend(low, high, share, result):
    for x in range(len(result)):
        result[x] = low[x] + share * (high[x] - low[x])


@njit(cache=True, nogil=True)
def _decode_height(logits_CG, channel, start, count, best, total, chosen, halves):
    """The classes and the bits of the confidences of `count` voxels of one height, whose first class is
    `channel`."""
    best[:count], chosen[:count], total[:count] = logits_CG[channel, start:start + count], 0, 0
    for c in range(1, CLASSES):
        _choose(logits_CG[channel + c, start:start + count], np.int32(c), best, chosen)
    for c in range(CLASSES):
        _add_exponentials(logits_CG[channel + c, start:start + count], best, total)
    _to_half(total[:count], halves)


@njit(cache=True, nogil=True)
def _choose(row, label, best, chosen):
    """Where `row` is larger than `best`, it is the best and `label` its class: the first class where several
    are equal."""
    for i in range(len(row)):
        # all read before anything is decided: selects, no branches
        value, before, kept = row[i], best[i], chosen[i]
        best[i] = value if value > before else before
        chosen[i] = label if value > before else kept


# a product and a sum may join to one instruction, no more
@njit(cache=True, nogil=True, fastmath={'contract'})
def _add_exponentials(row, best, total):
    """Add exp(row - best), no exponent above 0, as 2 ** (whole + rest): the rest (-0.5 to 0.5) by its Taylor
    series."""
    for i in range(len(row)):
        power = (row[i] - best[i]) * np.float32(1.4426950408889634)
        power = np.float32(-126) if power < np.float32(-126) else power  # this way round NaN stays NaN
        shifted = power + np.float32(12582912)  # 1.5 * 2 ** 23: the last bits are the whole number
        r = power - (shifted - np.float32(12582912))
        e = np.float32(1.5403530393381606e-4)
        e = e * r + np.float32(1.3333558146428443e-3)
        e = e * r + np.float32(9.618129107628477e-3)
        e = e * r + np.float32(5.550410866482158e-2)
        e = e * r + np.float32(0.2402265069591007)
        e = e * r + np.float32(0.6931471805599453)
        e = e * r + np.float32(1)
        total[i] += np.int32(np.float32(e).view(np.int32) + (np.float32(shifted).view(np.int32) << 23)).view(
            np.float32
        )


@njit(cache=True, nogil=True, error_model='numpy')
def _to_half(total, halves):
    """The bits of 1 / total as float16, rounded to the nearest, half-way ones to even; 1 / 18 to 1 are
    ordinary numbers of it."""
    for i in range(len(total)):
        bits = np.float32(1 / total[i]).view(np.int32)
        half = (bits - (112 << 23) + 0xfff + ((bits >> 13) & 1)) >> 13
        halves[i] = np.uint16(half) if total[i] == total[i] else np.uint16(0x7e00)
