"""Objects over time: numbers, tails and ways ahead."""
from __future__ import annotations

from ..palette import colour_of
from .layer import TrackLayer

__all__ = ['TrackLayer', 'colour_of']
