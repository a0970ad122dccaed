"""Semantic voxels: `OccupancyHead`."""
from .head import OccupancyHead

__all__ = ['OccupancyHead']
