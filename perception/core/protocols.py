"""Numbers and names of the published protocols: every one stands here once and is imported from here.

nuScenes' sensors, classes, attributes, ranges and splits: Caesar et al., CVPR 2020, arXiv 1903.11027. Occ3D's
voxels: Tian et al. 2023, arXiv 2304.14365. BEVFusion's map: Liu et al. 2023, arXiv 2205.13542. MapTR's lanes:
Liao et al. 2023, arXiv 2208.14437; with centre lines MapTRv2: Liao et al. 2024, arXiv 2308.05736.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .grid import BEVGrid

SENSORS = ('camera', 'lidar', 'radar')
TASKS = ('detection', 'map_segmentation', 'occupancy', 'lanes')
CAMERAS = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_FRONT_LEFT')
RADARS = ('RADAR_FRONT', 'RADAR_FRONT_LEFT', 'RADAR_FRONT_RIGHT', 'RADAR_BACK_LEFT', 'RADAR_BACK_RIGHT')

SPLIT_LISTS = Path(__file__).with_name('splits')
"""Folder of nuScenes' scene lists, one name a line in `<split>.txt`."""

DETECTION_CLASSES = (
    'car', 'truck', 'bus', 'trailer', 'construction_vehicle', 'pedestrian', 'motorcycle', 'bicycle',
    'traffic_cone', 'barrier')
ATTRIBUTES = ('pedestrian.moving', 'pedestrian.sitting_lying_down', 'pedestrian.standing', 'cycle.with_rider',
              'cycle.without_rider', 'vehicle.moving', 'vehicle.parked', 'vehicle.stopped')

HALF_TURN_CLASSES = ('barrier',)
"""Classes without a front: their heading is known modulo pi (`detection_cvpr_2019`)."""

DETECTION_RANGES_M = (50, 50, 50, 50, 50, 40, 40, 40, 30, 30)
"""Distance from the car within which a class counts, in the order of `DETECTION_CLASSES`
(`detection_cvpr_2019`)."""

TRACKING_CLASSES = ('bicycle', 'bus', 'car', 'motorcycle', 'pedestrian', 'trailer', 'truck')
"""Those of the tracking task, in its order (`tracking_nips_2019`); ranges are those of detection."""

CATEGORY_TO_CLASS = {
    'movable_object.barrier': 'barrier', 'movable_object.trafficcone': 'traffic_cone',
    'vehicle.bicycle': 'bicycle', 'vehicle.motorcycle': 'motorcycle', 'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus', 'vehicle.car': 'car', 'vehicle.construction': 'construction_vehicle',
    'vehicle.trailer': 'trailer', 'vehicle.truck': 'truck', 'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian', 'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.police_officer': 'pedestrian'}
"""nuScenes category -> detection class, after the detection task's definition (Caesar et al., CVPR 2020,
arXiv 1903.11027, supplement). Categories that are not here (strollers, wheelchairs, debris, animals ...) are
not detected."""


VISIBILITY_LEVELS = {'v0-40': 1, 'v40-60': 2, 'v60-80': 3, 'v80-100': 4}
"""How much of a box all cameras together see, in percent: level in nuScenes' `visibility.json` -> 1..4."""


MAP_CLASSES = ('drivable_area', 'ped_crossing', 'walkway', 'stop_line', 'carpark_area', 'divider')
MAP_AND_VEHICLE_CLASSES = (*MAP_CLASSES, 'vehicle')
"""With the ground that vehicles cover (Philion & Fidler 2020, arXiv 2008.05711); seven as CTAB has."""

FOUR_MAP_CLASSES = ('drivable_area', 'ped_crossing', 'walkway', 'vehicle')
"""CTAB's smaller set (Inanc & Erkent 2026, arXiv 2604.12918)."""

MAP_GRID = BEVGrid((-50.0, 50.0), (-50.0, 50.0), 0.5)
"""BEVFusion's: 200 x 200 cells of half a metre around the car."""

LIDARSEG_CATEGORIES = (
    'noise', 'animal', 'human.pedestrian.adult', 'human.pedestrian.child',
    'human.pedestrian.construction_worker', 'human.pedestrian.personal_mobility',
    'human.pedestrian.police_officer', 'human.pedestrian.stroller', 'human.pedestrian.wheelchair',
    'movable_object.barrier', 'movable_object.debris', 'movable_object.pushable_pullable',
    'movable_object.trafficcone', 'static_object.bicycle_rack', 'vehicle.bicycle', 'vehicle.bus.bendy',
    'vehicle.bus.rigid', 'vehicle.car', 'vehicle.construction', 'vehicle.emergency.ambulance',
    'vehicle.emergency.police', 'vehicle.motorcycle', 'vehicle.trailer', 'vehicle.truck',
    'flat.driveable_surface', 'flat.other', 'flat.sidewalk', 'flat.terrain', 'static.manmade', 'static.other',
    'static.vegetation', 'vehicle.ego')
"""Category names at their nuScenes-lidarseg index (Fong et al. 2021, arXiv 2109.03805)."""

OCCUPANCY_CLASSES = (
    'others', 'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian',
    'traffic_cone', 'trailer', 'truck', 'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade',
    'vegetation', 'free')
OCCUPANCY_FREE = 17
OCCUPANCY_IGNORED = 255

OCCUPANCY_SHAPE_XYZ = (200, 200, 16)
OCCUPANCY_LOW_M = (-40.0, -40.0, -1.0)
OCCUPANCY_VOXEL_M = 0.4

OCCUPANCY_GRID = BEVGrid((-40.0, 40.0), (-40.0, 40.0), OCCUPANCY_VOXEL_M, (-1.0, 5.4), OCCUPANCY_VOXEL_M)
"""Occ3D's: 200 x 200 x 16 voxels of 0.4 m in ego; index = floor((position - `OCCUPANCY_LOW_M`) /
`OCCUPANCY_VOXEL_M`)."""

LANE_CLASSES = ('divider', 'ped_crossing', 'boundary', 'centerline')

DIRECTED_LANE_CLASSES = ('centerline',)
"""Classes whose points run the way that traffic drives; those of others begin at either end."""

LANE_RANGES_M = {'60x30': ((-30.0, 30.0), (-15.0, 15.0)), '100x50': ((-50.0, 50.0), (-25.0, 25.0))}
"""{name: (x range, y range)} that lanes are scored in, forward and to the left of the window's centre.

60 x 30 m are MapTR's, 100 x 50 m StreamMapNet's (Yuan et al. 2024, arXiv 2308.12570).
"""

LANE_THRESHOLDS_M = {'60x30': (0.5, 1.0, 1.5), '100x50': (1.0, 1.5, 2.0)}
"""{range: Chamfer distances up to which an element counts}.

MapTR's; for the wide range those of StreamMapNet and MapTracker (Chen et al. 2024, arXiv 2403.15951).
"""


@dataclass(frozen=True)
class LaneProtocol:
    """How the truth of vector lanes is made and how it is scored.

    Attributes:
        classes: those of the mean.
        published: the truth is what the publication's own code makes of the map, in a window that is centred
            on the LiDAR; a class without truth has AP 0. Ours is cut from the elements around ego; a class
            without truth is left out.
        outline_m: a pair counts only where the outlines of both, flat strips that reach this far to either
            side, touch; 0 compares all pairs.
    """

    classes: tuple[str, ...]
    published: bool = True
    outline_m: float = 2.0


LANE_PROTOCOLS = {
    'ours': LaneProtocol(LANE_CLASSES, published=False, outline_m=0.0),
    'maptr': LaneProtocol(('divider', 'ped_crossing', 'boundary')),
    'maptr_v2_centerline': LaneProtocol(LANE_CLASSES)}
"""By name. MapTRv2 without centre lines has the truth and the mean of `maptr`."""
