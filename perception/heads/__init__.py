"""Shared BEV map -> predictions, one folder per task. Importing this room registers its heads."""
from .bridge import CrossTaskBridge
from .detection import CenterHead
from .lanes import LaneHead
from .m3net import M3NetBridge
from .map_segmentation import MapSegmentationHead
from .occupancy import OccupancyHead
from .reconstruction import ReconstructionHead

__all__ = [
    'CenterHead', 'CrossTaskBridge', 'LaneHead', 'M3NetBridge', 'MapSegmentationHead', 'OccupancyHead',
    'ReconstructionHead']
