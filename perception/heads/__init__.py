"""Shared BEV map -> predictions, one folder per task. Importing this room registers its heads."""
from .bridge import CrossTaskBridge
from .detection import CenterHead, QueryBoxHead
from .lanes import LaneHead
from .m3net import M3NetBridge
from .map_segmentation import MapSegmentationHead, QueryMapHead
from .occupancy import OccupancyHead, QueryOccupancyHead
from .reconstruction import ReconstructionHead

__all__ = [
    'CenterHead', 'CrossTaskBridge', 'LaneHead', 'M3NetBridge', 'MapSegmentationHead', 'OccupancyHead',
    'QueryBoxHead', 'QueryMapHead', 'QueryOccupancyHead', 'ReconstructionHead']
