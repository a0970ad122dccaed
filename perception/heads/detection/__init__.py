"""3-D boxes: `CenterHead` from a map, `QueryBoxHead` from queries."""
from .head import CenterHead
from .query_head import QueryBoxHead

__all__ = ['CenterHead', 'QueryBoxHead']
