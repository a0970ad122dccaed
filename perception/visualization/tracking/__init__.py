"""Objects over time: numbers, tails and ways ahead."""
from __future__ import annotations

from .layer import TrackLayer, colour_of

__all__ = ['TrackLayer', 'colour_of']
