"""The records that travel between rooms: frozen, with their shapes, frames and units, checked at birth.

Frames: everything here is in **ego** at the key frame's LiDAR time (x forward, y left, z up, origin on the
ground below the rear axle) unless a name says otherwise. What the car knows (`Sample`, `Batch`) and what an
annotator knows (`Annotations`) are different types. A sensor that is absent is None or has a False in its
mask; its values are then never read.

Shape letters: B batch, N cameras, R radars, P points, M boxes, L lane elements, H W image rows and columns,
X Y Z voxels along x, y, z.
"""
from __future__ import annotations

from .annotations import (
    LABELS_OF_TASK,
    Annotations,
    BoxLabels,
    LanePolylines,
    MapCells,
    MapLayers,
    OccupancyLabels,
    Polygon,
)
from .area import LabelledArea
from .batch import Batch
from .checks import check_shape
from .classes import NUSCENES_CLASSES, DetectionClass, DetectionClasses, check_same_classes
from .columns import (
    CENTRE,
    FARTHEST_M,
    INTENSITY,
    LIDAR_COLUMNS,
    LIDAR_LIMITS,
    RADAR_COLUMNS,
    RADAR_INDEX,
    RADAR_LIMITS,
    RADAR_RCS,
    RADAR_TIME_LAG,
    RADAR_VELOCITY,
    RING,
    SIZE,
    TIME_LAG,
    VELOCITY,
    XY,
    XYZ,
    YAW,
)
from .hidden import HiddenPoints
from .predictions import Boxes3D, Lanes, MapSegmentation, Occupancy, TaskOutput
from .sample import CameraRig, Frame, LidarPoints, RadarPoints, Sample
from .tracks import Tracks

__all__ = [
    'Annotations', 'Batch', 'BoxLabels', 'Boxes3D', 'CENTRE', 'CameraRig', 'DetectionClass',
    'DetectionClasses', 'FARTHEST_M', 'Frame', 'HiddenPoints', 'INTENSITY',
    'LABELS_OF_TASK', 'LIDAR_COLUMNS', 'LIDAR_LIMITS', 'LabelledArea', 'LanePolylines', 'Lanes',
    'LidarPoints', 'MapCells', 'MapLayers', 'MapSegmentation',
    'NUSCENES_CLASSES', 'Occupancy', 'OccupancyLabels', 'Polygon', 'RADAR_COLUMNS',
    'RADAR_INDEX', 'RADAR_LIMITS', 'RADAR_RCS', 'RADAR_TIME_LAG', 'RADAR_VELOCITY', 'RING', 'RadarPoints',
    'SIZE', 'Sample', 'TIME_LAG', 'TaskOutput', 'Tracks', 'VELOCITY', 'XY', 'XYZ', 'YAW',
    'check_same_classes', 'check_shape']
