"""Map classes per cell: `MapSegmentationHead`."""
from .head import MapSegmentationHead

__all__ = ['MapSegmentationHead']
