"""Lenses as rows of numbers, for tensors and compiled loops.

A row is model (0 pinhole, 1 Brown-Conrady, 2 Kannala-Brandt), eight coefficients (zero where the model has
fewer) and the limit of the valid field: a radius on the plane z = 1, or an angle from the axis in radians for
Kannala-Brandt.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .distortion import Distortion

LENS_ROW = 10
PINHOLE_ROW = (0.0, *[0.0] * 8, np.inf)


def lens_rows(distortions: Sequence[Distortion | None] | None, count: int) -> np.ndarray:
    """Lenses of `count` cameras, float64 `(count, 10)`; None is a pinhole."""
    distortions = [None] * count if distortions is None else distortions
    return np.array([PINHOLE_ROW if lens is None else lens.row for lens in distortions]).reshape(-1, LENS_ROW)


def batch_rows(
    rigs: Sequence[Sequence[Distortion | None] | None], count: int
) -> np.ndarray | None:
    """Lenses of B rigs of `count` cameras, float64 `(B, count, 10)`; None where all are pinholes."""
    if all(lens is None or lens.is_pinhole for lenses in rigs for lens in lenses or ()):
        return None
    return np.stack([lens_rows(lenses, count) for lenses in rigs])
