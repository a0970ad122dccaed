"""The record of one lens, checked at birth."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .fields import brown_conrady_limit, kannala_brandt_limit
from .formulas import Array, bend, library_of, straighten, with_ones

BROWN_CONRADY = 'brown_conrady'
KANNALA_BRANDT = 'kannala_brandt'
MODELS_OF_LENSES = {BROWN_CONRADY: (4, 5, 8), KANNALA_BRANDT: (4,)}
"""How many coefficients each may have."""
CODES = {BROWN_CONRADY: 1.0, KANNALA_BRANDT: 2.0}
"""Their first number in a row of `rows`; 0 is a pinhole."""

_LARGEST = 1e6
LENSES_OF_ROS = {
    'plumb_bob': BROWN_CONRADY, 'rational_polynomial': BROWN_CONRADY, 'equidistant': KANNALA_BRANDT,
    'fisheye': KANNALA_BRANDT}
"""`distortion_model` of a CameraInfo -> ours."""


@dataclass(frozen=True)
class Distortion:
    """How a lens bends rays before they meet the image plane; every number as OpenCV orders it.

    Attributes:
        model: 'brown_conrady' (Brown, 1971, "Close-range camera calibration"; OpenCV's `projectPoints`; ROS
            `plumb_bob` and `rational_polynomial`) or 'kannala_brandt' (Kannala & Brandt, 2006, "A generic
            camera model and calibration method"; OpenCV's `fisheye`; ROS `equidistant`).
        coefficients: Brown-Conrady k1, k2, p1, p2 (, k3 (, k4, k5, k6)); Kannala-Brandt k1, k2, k3, k4.

    A lens has a **valid field**: where its polynomial stops growing, rays from farther out would be folded
    back into the picture. The camera does not see them.

    The **depth** of a point is z, its distance along the camera's axis; through a Kannala-Brandt lens, whose
    field may be wider than 180 degrees and where z may be zero or negative, it is the distance from the
    camera. A point that the lens does not see has a depth of zero or less.

    Raises:
        ValueError: an unknown model, another number of coefficients, or numbers that are not finite.
    """

    model: str
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(self.model, self.coefficients, 'Distortion')
        object.__setattr__(self, 'coefficients', tuple(float(number) for number in self.coefficients))

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None, where: str) -> Distortion | None:
        """Read the optional field `distortion` of a camera in a JSON file; None stays None, a pinhole.

        Args:
            record: `{"model": ..., "coefficients": [...]}`.
            where: file and field, for the message.

        Raises:
            ValueError: names the field, what was found and what was expected.
        """
        if record is None:
            return None
        if not isinstance(record, Mapping) or set(record) != {'model', 'coefficients'}:
            raise ValueError(
                f'{where}: expected {{"model": ..., "coefficients": [...]}}, found {str(record):.120}')
        _check(record['model'], record['coefficients'], where)
        return cls(record['model'], tuple(record['coefficients']))

    @classmethod
    def from_ros(cls, model: Any, numbers: Sequence[float], fields: tuple[str, str]) -> Distortion | None:
        """The lens of a sensor_msgs/CameraInfo; None is a pinhole, also where all its numbers are zero.

        Args:
            model: its `distortion_model`.
            numbers: its `d`, in OpenCV's order.
            fields: what the two are called in a message.

        Raises:
            ValueError: another model, another number of coefficients, or numbers of thin prisms or of a
                tilted sensor (OpenCV's 9 to 14), which are not ours; names the field.
        """
        flat = (None, '', 'none', *(name for name, ours in LENSES_OF_ROS.items() if ours == BROWN_CONRADY))
        if model in flat and not any(numbers):
            return None
        if not isinstance(model, str) or model not in LENSES_OF_ROS:
            raise ValueError(f'{fields[0]}: found {model!r:.60}, expected one of {", ".join(LENSES_OF_ROS)}')

        # OpenCV's long form of Brown-Conrady has twelve or fourteen numbers
        ours = LENSES_OF_ROS[model]
        used = tuple(numbers[:8] if ours == BROWN_CONRADY else numbers)
        if any(numbers[len(used):]):
            raise ValueError(
                f'{fields[1]}: found {str(list(numbers)):.160}, expected zeros behind the first {len(used)}')
        _check(ours, used, fields[1])
        return cls(ours, used)

    def to_record(self) -> dict[str, Any]:
        """The JSON field that `from_record` reads."""
        return {'model': self.model, 'coefficients': list(self.coefficients)}

    @property
    def is_pinhole(self) -> bool:
        """Whether it bends nothing: Brown-Conrady with zeros alone, as many drivers publish it."""
        return self.model == BROWN_CONRADY and not any(self.coefficients)

    @property
    def by_distance(self) -> bool:
        """Whether depth is the distance from the camera, not that along its axis."""
        return self.model == KANNALA_BRANDT

    @cached_property
    def field_rad(self) -> float:
        """Angle from the axis up to which it sees (half of a round field of view)."""
        return self.row[9] if self.by_distance else float(np.arctan(self.row[9]))

    @cached_property
    def row(self) -> tuple[float, ...]:
        """The ten numbers that arrays carry, see `rows.LENS_ROW`."""
        numbers = (*self.coefficients, *[0.0] * (8 - len(self.coefficients)))
        if self.is_pinhole:
            return (0.0, *numbers, np.inf)
        limit = kannala_brandt_limit if self.by_distance else brown_conrady_limit
        return (CODES[self.model], *numbers, limit(numbers))

    def distort(self, points: Array) -> Array:
        """Points `(*, 2)` of the plane z = 1 -> where the lens puts them there; NaN outside the valid field.

        A fisheye's rays from beside and behind do not cross that plane: see `projection.lens_project`.
        """
        plane, _ = bend(self.row, with_ones(points))
        return plane

    def undistort(self, points: Array) -> Array:
        """Inverse of `distort`; NaN where nothing of the plane z = 1 comes to."""
        rays = straighten(self.row, points)
        along, xp = rays[..., 2:], library_of(points)
        return rays[..., :2] / xp.where(along > 0, along, xp.full_like(along, np.nan))


def _check(model: Any, coefficients: Any, where: str) -> None:
    if not isinstance(model, str) or model not in MODELS_OF_LENSES:
        ours = LENSES_OF_ROS.get(model) if isinstance(model, str) else None
        hint = f' (what ROS calls {model!r} is {ours!r} here)' if ours else ''
        raise ValueError(
            f'{where}: expected a model of {", ".join(MODELS_OF_LENSES)}, found {str(model)!r:.60}{hint}')

    counts = MODELS_OF_LENSES[model]
    listed = isinstance(coefficients, (list, tuple, np.ndarray)) and len(coefficients) in counts
    if not listed or not all(_is_number(number) for number in coefficients):
        raise ValueError(
            f'{where}: expected {" or ".join(map(str, counts))} finite coefficients of {model}, found '
            f'{str(coefficients):.120}')


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return plain and abs(value) <= _LARGEST
