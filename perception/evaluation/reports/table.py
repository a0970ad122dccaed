"""One printed table of all tasks."""
from __future__ import annotations

import math
from collections.abc import Mapping

from ...core.protocols import DETECTION_CLASSES, LANE_CLASSES, MAP_CLASSES, OCCUPANCY_CLASSES

HEADLINES = {
    'detection': (
        'NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE', 'mAP@0.5m', 'mAP@1m', 'mAP@2m', 'mAP@4m',
        'NDS_present_classes', 'mAP_present_classes'),
    'map': ('mIoU', 'mIoU@0.5'),
    'occupancy': (
        'mIoU_camera', 'mIoU_lidar', 'mIoU_all', 'geometry_IoU_camera', 'geometry_IoU_lidar',
        'geometry_IoU_all', 'RayIoU', 'RayIoU@1m', 'RayIoU@2m', 'RayIoU@4m'),
    'lanes': ('mAP', 'mAP@0.5m', 'mAP@1m', 'mAP@1.5m'),
    'lanes_100x50': ('mAP', 'mAP@0.5m', 'mAP@1m', 'mAP@1.5m'),
}
PER_CLASS = {
    'detection': (DETECTION_CLASSES, ('AP_',)), 'map': (MAP_CLASSES, ('IoU_', 'IoU@0.5_')),
    'occupancy': (OCCUPANCY_CLASSES[:-1], ('IoU_camera_', 'IoU_lidar_', 'IoU_all_', 'RayIoU_')),
    'lanes': (LANE_CLASSES, ('AP_',)), 'lanes_100x50': (LANE_CLASSES, ('AP_',))}


def _shown(value: float | None) -> str:
    return '-' if value is None or math.isnan(value) else f'{value:.4f}'


def format_table(metrics: Mapping[str, float], per_class: bool = True) -> str:
    """All figures for a person: the headline of each task, then its classes. Figures that do not exist are
    '-'."""
    lines: list[str] = []
    for task, names in HEADLINES.items():
        known = [name for name in names if f'{task}/{name}' in metrics]
        if not known:
            continue
        lines += [f'{task}', *(f'  {name:<24}{_shown(metrics[f"{task}/{name}"]):>8}' for name in known)]
        if per_class:
            lines += _class_lines(metrics, task)
    return '\n'.join(lines) if lines else 'no figures: no sample has both an answer and truth'


def _class_lines(metrics: Mapping[str, float], task: str) -> list[str]:
    classes, columns = PER_CLASS[task]
    columns = [c for c in columns if any(f'{task}/{c}{name}' in metrics for name in classes)]
    if not columns:
        return []
    width = max(13, *(len(c) + 2 for c in columns))
    head = f'  {"class":<24}' + ''.join(f'{c.rstrip("_"):>{width}}' for c in columns)
    return [
        head,
        *(
            f'  {name:<24}' + ''.join(f'{_shown(metrics.get(f"{task}/{c}{name}")):>{width}}' for c in columns)
            for name in classes
        ),
    ]
