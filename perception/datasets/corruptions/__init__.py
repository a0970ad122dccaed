"""Failing sensors: pure, seeded functions on a `Sample`, each with its severities and its source.

`corruption('fog')(sample, 2, rng)` gives the corrupted sample; `Corrupt` does the same as a transform of a
pipeline. `camera`, `lidar`, `radar` and `alignment` hold the definitions, `image` the arithmetic on pixels.
"""
from . import alignment, camera, lidar, radar  # noqa: F401
from .base import Corruption, corruption, corruptions, parse_choice, suite_rows
from .transform import Corrupt

__all__ = ['Corrupt', 'Corruption', 'corruption', 'corruptions', 'parse_choice', 'suite_rows']
