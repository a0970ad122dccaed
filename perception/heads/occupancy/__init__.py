"""Semantic voxels: `OccupancyHead` from a map, `QueryOccupancyHead` from queries."""
from .head import OccupancyHead
from .query_head import QueryOccupancyHead

__all__ = ['OccupancyHead', 'QueryOccupancyHead']
