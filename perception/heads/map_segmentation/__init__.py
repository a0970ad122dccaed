"""Map classes per cell: `MapSegmentationHead` from a map, `QueryMapHead` from queries."""
from .head import MapSegmentationHead
from .query_head import QueryMapHead

__all__ = ['MapSegmentationHead', 'QueryMapHead']
