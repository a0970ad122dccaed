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

_CELLS = 512  # cells decoded together: their logits of one height stay in the processor's nearest caches


def decode_occupancy(logits_BCYX: Tensor, shape_YX: tuple[int, int]) -> list[Occupancy]:
    """Decode logits to the likeliest class `(X, Y, Z)` and its softmax, per sample.

    On a CPU one compiled loop does all of it and never holds the fine logits; elsewhere, torch does.

    Args:
        logits_BCYX: `(B, Z * 18, y, x)`, channel z * 18 + class. Coarser cells than the prediction's are
            sampled bilinearly (align_corners=False).
        shape_YX: cells of the prediction.
    """
    decode = decode_compiled if logits_BCYX.device.type == 'cpu' else decode_reference
    return [decode(logits_CYX, shape_YX) for logits_CYX in logits_BCYX.detach()]


def decode_reference(logits_CYX: Tensor, shape_YX: tuple[int, int]) -> Occupancy:
    """Reference implementation of `decode_compiled`: one sample, by torch on any device."""
    logits_CYX = logits_CYX.float()
    if tuple(logits_CYX.shape[1:]) != tuple(shape_YX):
        logits_CYX = F.interpolate(
            logits_CYX[None], size=tuple(shape_YX), mode='bilinear', align_corners=False
        )[0]

    # height by height, so that the numbers of one stay in the processor's cache
    heights = [_likeliest(one_CYX) for one_CYX in logits_CYX.unflatten(0, (-1, CLASSES))]
    labels, confidences = zip(*heights, strict=True)
    return Occupancy(_to_XYZ(torch.stack(labels), np.uint8), _to_XYZ(torch.stack(confidences), np.float16))


def _likeliest(logits_CYX: Tensor) -> tuple[Tensor, Tensor]:
    """Class and softmax of each voxel of one height."""
    best_YX, label_YX = logits_CYX.max(0)
    return label_YX.to(torch.uint8), 1 / torch.exp(logits_CYX - best_YX).sum(0)


def _to_XYZ(values_ZYX: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values_ZYX.cpu().numpy().transpose(2, 1, 0).astype(dtype))


def decode_compiled(logits_CYX: Tensor, shape_YX: tuple[int, int], threads: int | None = None) -> Occupancy:
    """Decode one sample by a compiled loop on the CPU.

    The classes are those of `decode_reference`, the confidences too, to the last digit of float16.

    Args:
        logits_CYX: `(Z * 18, y, x)`.
        shape_YX: cells of the prediction.
        threads: number of threads that divide the cells; as many as torch may use by default.
    """
    y, x = shape_YX
    label_XYZ = np.empty((x, y, logits_CYX.shape[0] // CLASSES), dtype=np.uint8)
    bits_XYZ = np.empty(label_XYZ.shape, dtype=np.uint16)
    logits = logits_CYX.float().contiguous().numpy()

    if logits.shape[1:] == (y, x):
        flat_CG = logits.reshape(len(logits), y * x)
        run_shares(y * x, _decode_cells, flat_CG, label_XYZ, bits_XYZ, threads=threads)
    else:
        rows, columns = _coarse_positions(y, logits.shape[1]), _coarse_positions(x, logits.shape[2])
        run_shares(y, _decode_rows, logits, *rows, *columns, label_XYZ, bits_XYZ, threads=threads)
    return Occupancy(label_XYZ, bits_XYZ.view(np.float16))


def _coarse_positions(fine: int, coarse: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of `fine` cells lie among `coarse` ones on the same length.

    Returns:
        The lower neighbour of each, and the weight of the next one.
    """
    position = np.clip((np.arange(fine) + 0.5) * (coarse / fine) - 0.5, 0, coarse - 1)
    low = position.astype(np.int64)
    return low, (position - low).astype(np.float32)


@njit(cache=True, nogil=True)
def _decode_cells(logits_CG, label_XYZ, bits_XYZ, first, last):
    """Decode cells first to last (row by row) of logits on the prediction's own cells."""
    x_size, _, heights = label_XYZ.shape
    best = np.empty(_CELLS, np.float32)
    total = np.empty(_CELLS, np.float32)
    chosen = np.empty((heights, _CELLS), np.int32)  # as wide as a logit: one kind of vector
    halves = np.empty((heights, _CELLS), np.uint16)

    for start in range(first, last, _CELLS):
        count = min(_CELLS, last - start)
        for z in range(heights):
            _decode_height(logits_CG, z * CLASSES, start, count, best, total, chosen[z], halves[z])

        # Occ3D's order (X, Y, Z): the heights of a cell lie side by side
        for i in range(count):
            y, x = divmod(start + i, x_size)
            for z in range(heights):
                label_XYZ[x, y, z] = chosen[z, i]
                bits_XYZ[x, y, z] = halves[z, i]


@njit(cache=True, nogil=True)
def _decode_rows(logits_CYX, y_low, y_weight, x_low, x_weight, label_XYZ, bits_XYZ, first, last):
    """Decode rows first to last of the prediction from coarser logits.

    Two coarse rows at a time are brought to the prediction's columns.
    """
    x_size, _, heights = label_XYZ.shape
    best = np.empty(x_size, np.float32)
    total = np.empty(x_size, np.float32)
    chosen = np.empty((heights, x_size), np.int32)
    halves = np.empty((heights, x_size), np.uint16)

    # coarse row r lies in wide[r % 2], so that the next fine row finds it again
    wide = np.empty((2, len(logits_CYX), x_size), np.float32)
    held = np.array([-1, -1])
    fine = np.empty((CLASSES, x_size), np.float32)

    for y in range(first, last):
        low = y_low[y]
        high = min(low + 1, logits_CYX.shape[1] - 1)
        for row in (low, high):
            if held[row % 2] != row:
                held[row % 2] = row
                _widen(logits_CYX, row, x_low, x_weight, wide[row % 2])

        for z in range(heights):
            for c in range(CLASSES):
                _blend(wide[low % 2, z * CLASSES + c], wide[high % 2, z * CLASSES + c], y_weight[y], fine[c])
            _decode_height(fine, 0, 0, x_size, best, total, chosen[z], halves[z])

        for x in range(x_size):
            for z in range(heights):
                label_XYZ[x, y, z] = chosen[z, x]
                bits_XYZ[x, y, z] = halves[z, x]


@njit(cache=True, nogil=True)
def _widen(logits_CYX, row, x_low, x_weight, wide_CX):
    """Bring one coarse row to the prediction's columns."""
    last = logits_CYX.shape[2] - 1
    for c in range(len(logits_CYX)):
        for x in range(len(x_low)):
            left = logits_CYX[c, row, x_low[x]]
            right = logits_CYX[c, row, min(x_low[x] + 1, last)]
            wide_CX[c, x] = left + x_weight[x] * (right - left)


@njit(cache=True, nogil=True)
def _blend(low, high, weight, result):
    for x in range(len(result)):
        result[x] = low[x] + weight * (high[x] - low[x])


@njit(cache=True, nogil=True)
def _decode_height(logits_CG, channel, start, count, best, total, chosen, halves):
    """Write classes and bits of confidences of `count` voxels of one height.

    `channel` is the channel of their first class.
    """
    best[:count] = logits_CG[channel, start:start + count]
    chosen[:count] = 0
    total[:count] = 0

    for c in range(1, CLASSES):
        _choose(logits_CG[channel + c, start:start + count], np.int32(c), best, chosen)
    for c in range(CLASSES):
        _add_exponentials(logits_CG[channel + c, start:start + count], best, total)
    _to_half(total[:count], halves)


@njit(cache=True, nogil=True)
def _choose(row, label, best, chosen):
    """Take `row` and its class `label` where it exceeds `best`; of equal logits the first class stays."""
    for i in range(len(row)):
        # all read before anything is decided: selects, no branches
        value, before, kept = row[i], best[i], chosen[i]
        best[i] = value if value > before else before
        chosen[i] = label if value > before else kept


# a product and a sum may join to one instruction, no more
@njit(cache=True, nogil=True, fastmath={'contract'})
def _add_exponentials(row, best, total):
    """Add exp(row - best), whose exponents are at most 0, to `total`.

    It is 2 ** (whole + rest), the rest (-0.5 to 0.5) by its Taylor series.
    """
    for i in range(len(row)):
        power = (row[i] - best[i]) * np.float32(1.4426950408889634)
        power = np.float32(-126) if power < np.float32(-126) else power  # this way round NaN stays NaN

        # power = whole + r
        shifted = power + np.float32(12582912)  # 1.5 * 2 ** 23: the last bits are the whole number
        r = power - (shifted - np.float32(12582912))

        e = np.float32(1.5403530393381606e-4)
        e = e * r + np.float32(1.3333558146428443e-3)
        e = e * r + np.float32(9.618129107628477e-3)
        e = e * r + np.float32(5.550410866482158e-2)
        e = e * r + np.float32(0.2402265069591007)
        e = e * r + np.float32(0.6931471805599453)
        e = e * r + np.float32(1)

        # times 2 ** whole: added to the exponent's bits
        bits = np.float32(e).view(np.int32) + (np.float32(shifted).view(np.int32) << 23)
        total[i] += np.int32(bits).view(np.float32)


@njit(cache=True, nogil=True, error_model='numpy')
def _to_half(total, halves):
    """Write the bits of 1 / total as float16, rounded to the nearest, half-way ones to even.

    1 / 18 to 1 are normal numbers of float16.
    """
    for i in range(len(total)):
        bits = np.float32(1 / total[i]).view(np.int32)
        half = (bits - (112 << 23) + 0xfff + ((bits >> 13) & 1)) >> 13
        halves[i] = np.uint16(half) if total[i] == total[i] else np.uint16(0x7e00)
