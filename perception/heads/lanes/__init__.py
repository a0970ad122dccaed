"""Vector lane elements: `LaneHead`."""
from .head import LaneHead

__all__ = ['LaneHead']
