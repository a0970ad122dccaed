"""How far from the axis a lens's polynomial goes on growing: the limit of its valid field."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial

from .formulas import jacobian

_WIDEST_RAD = np.pi - 1e-6
_FARTHEST = 1e3


def kannala_brandt_limit(coefficients: Sequence[float]) -> float:
    """Angle (rad) below which the radius grows with the angle, at most just under pi."""
    grows = Polynomial([1, *(power * k for power, k in zip((3, 5, 7, 9), coefficients[:4], strict=True))])
    return float(np.sqrt(min(_first_root(grows), _WIDEST_RAD ** 2)))


def brown_conrady_limit(coefficients: Sequence[float]) -> float:
    """Radius on the plane z = 1 below which no two points come to the same place; infinite where none do."""
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients
    above, below = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])

    # the radius grows while d (r above / below) / d r > 0, written in s = r^2
    s = Polynomial([0, 1])
    grows = above * below + 2 * s * (above.deriv() * below - above * below.deriv())
    limit = float(np.sqrt(min(_first_root(grows), _first_root(below))))
    return _tangential_limit(coefficients, limit) if p1 or p2 else limit


def _tangential_limit(coefficients: Sequence[float], limit: float) -> float:
    """Where the Jacobian's determinant vanishes first in any direction, no farther than the radial limit."""
    around = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    direction = np.stack([np.cos(around), np.sin(around)])

    def keeps(radius: np.ndarray) -> np.ndarray:
        x, y = direction[:, :, None] * radius
        xx, mixed, yy = jacobian(coefficients, x, y)
        return ((xx * yy - mixed * mixed > 0) & (xx + yy > 0)).all(0)

    radii = np.tan(np.linspace(0, np.arctan(min(limit, _FARTHEST)), 1000))
    kept = keeps(radii[:-1])
    if kept.all():
        return limit

    # halve between the last radius that keeps order and the first that does not
    first = int(kept.argmin())
    low, high = radii[max(first - 1, 0)], radii[first]
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(np.array([middle]))[0] else (low, middle)
    return float(low)


def _first_root(polynomial: Polynomial) -> float:
    """Smallest positive real root, infinite where there is none."""
    roots = polynomial.trim().roots()
    real = roots.real[np.abs(roots.imag) < 1e-9 * np.maximum(np.abs(roots), 1e-9)]
    return float(min(real[real > 0], default=np.inf))
