"""The one place that maps nuScenes' annotation categories to the ten detection classes."""
from __future__ import annotations

from pathlib import Path

from .contracts import DETECTION_CLASSES

SPLIT_LISTS = Path(__file__).with_name('splits')
"""Folder of nuScenes' scene lists, one name a line in `<split>.txt`."""

CATEGORY_TO_CLASS = {
    'movable_object.barrier': 'barrier',
    'movable_object.trafficcone': 'traffic_cone',
    'vehicle.bicycle': 'bicycle',
    'vehicle.motorcycle': 'motorcycle',
    'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus',
    'vehicle.car': 'car',
    'vehicle.construction': 'construction_vehicle',
    'vehicle.trailer': 'trailer',
    'vehicle.truck': 'truck',
    'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian',
    'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.police_officer': 'pedestrian',
}
"""nuScenes category -> detection class, after the detection task's definition (Caesar et al., CVPR 2020, arXiv 1903.11027,
supplement). Categories that are not here (strollers, wheelchairs, debris, animals ...) are not detected."""


def detection_label(category: str) -> int:
    """Index into `DETECTION_CLASSES` of a nuScenes category or of a detection class itself; -1 where there is none."""
    name = CATEGORY_TO_CLASS.get(category, category)
    return DETECTION_CLASSES.index(name) if name in DETECTION_CLASSES else -1
