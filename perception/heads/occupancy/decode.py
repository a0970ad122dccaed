"""Raw occupancy logits -> voxels in Occ3D order."""
from __future__ import annotations

import threading

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ...contracts import Occupancy
from .voxels import CLASSES

_CELLS = 512  # the logits of one height of so many cells stay in the processor's nearest caches


def decode_occupancy(logits_BCYX: Tensor) -> list[Occupancy]:
    """Logits `(B, Z * 18, Y, X)`, channel z * 18 + class -> per sample the likeliest class `(X, Y, Z)` and its softmax.

    On a CPU one compiled loop reads every logit once; elsewhere, torch does.
    """
    one_sample = decode_compiled if logits_BCYX.device.type == 'cpu' else decode_readable
    return [one_sample(one) for one in logits_BCYX.detach()]


def decode_readable(logits_CYX: Tensor) -> Occupancy:
    """One sample, by torch on any device."""
    # height by height, so that the numbers of one stay in the processor's cache
    answers = [_likeliest(one) for one in logits_CYX.float().unflatten(0, (-1, CLASSES))]
    label, confidence = (torch.stack(part) for part in zip(*answers, strict=True))
    return Occupancy(_to_XYZ(label, np.uint8), _to_XYZ(confidence, np.float16))


def decode_compiled(logits_CYX: Tensor, threads: int | None = None) -> Occupancy:
    """One sample, by a compiled loop on the CPU: the same classes, the same confidence to float16's last digit.

    Args:
        threads: which share the ground between them; as many as torch may use by default.
    """
    channels, y, x = logits_CYX.shape
    label_XYZ = np.empty((x, y, channels // CLASSES), dtype=np.uint8)
    confidence_XYZ = np.empty(label_XYZ.shape, dtype=np.uint16)
    logits_CG = logits_CYX.float().contiguous().numpy().reshape(channels, y * x)
    borders = np.linspace(0, y * x, (threads or torch.get_num_threads()) + 1).astype(int)
    parts = [threading.Thread(target=_decode_cells, args=(logits_CG, label_XYZ, confidence_XYZ, first, last))
             for first, last in zip(borders[1:-1], borders[2:], strict=True)]
    for part in parts:
        part.start()
    _decode_cells(logits_CG, label_XYZ, confidence_XYZ, borders[0], borders[1])
    for part in parts:
        part.join()
    return Occupancy(label_XYZ, confidence_XYZ.view(np.float16))


def _likeliest(logits_CYX: Tensor) -> tuple[Tensor, Tensor]:
    best, label = logits_CYX.max(0)
    return label.to(torch.uint8), 1 / torch.exp(logits_CYX - best).sum(0)


def _to_XYZ(values_ZYX: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values_ZYX.cpu().numpy().transpose(2, 1, 0).astype(dtype))


@njit(cache=True, nogil=True)
def _decode_cells(logits_CG, label_XYZ, confidence_XYZ, first, last):
    x_size, _, heights = label_XYZ.shape
    best, total = np.empty(_CELLS, np.float32), np.empty(_CELLS, np.float32)
    chosen = np.empty((heights, _CELLS), np.int32)  # as wide as a logit: one kind of vector
    halves = np.empty((heights, _CELLS), np.uint16)
    for start in range(first, last, _CELLS):
        count = min(_CELLS, last - start)
        for z in range(heights):
            best[:count], chosen[z], total[:] = logits_CG[z * CLASSES, start:start + count], 0, 0
            for c in range(1, CLASSES):
                _choose(logits_CG[z * CLASSES + c, start:start + count], np.int32(c), best, chosen[z])
            for c in range(CLASSES):
                _add_exponentials(logits_CG[z * CLASSES + c, start:start + count], best, total)
            _to_half(total[:count], halves[z])
        for i in range(count):
            y, x = divmod(start + i, x_size)
            for z in range(heights):
                label_XYZ[x, y, z] = chosen[z, i]
                confidence_XYZ[x, y, z] = halves[z, i]


@njit(cache=True, nogil=True)
def _choose(row, label, best, chosen):
    """Where `row` is larger than `best`, it is the best and `label` its class: the first class where several are equal."""
    for i in range(len(row)):
        value, before, kept = row[i], best[i], chosen[i]  # all read before anything is decided: selects, no branches
        best[i] = value if value > before else before
        chosen[i] = label if value > before else kept


@njit(cache=True, nogil=True, fastmath={'contract'})  # a product and a sum may join to one instruction, no more
def _add_exponentials(row, best, total):
    """Add exp(row - best), no exponent above 0, as 2 ** (whole + rest): the rest (-0.5 to 0.5) by its Taylor series."""
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
        total[i] += np.int32(np.float32(e).view(np.int32) + (np.float32(shifted).view(np.int32) << 23)).view(np.float32)


@njit(cache=True, nogil=True, error_model='numpy')
def _to_half(total, halves):
    """The bits of 1 / total as float16, rounded to the nearest, half-way ones to even; 1 / 18 to 1 are ordinary numbers of it."""
    for i in range(len(total)):
        bits = np.float32(1 / total[i]).view(np.int32)
        half = (bits - (112 << 23) + 0xfff + ((bits >> 13) & 1)) >> 13
        halves[i] = np.uint16(half) if total[i] == total[i] else np.uint16(0x7e00)
