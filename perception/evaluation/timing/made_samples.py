"""Made samples of a real split's size, for timing: tables, a results file, grids and lanes of a street."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...core.contracts import (
    Annotations,
    Frame,
    LanePolylines,
    Lanes,
    MapLayers,
    MapSegmentation,
    Occupancy,
    OccupancyLabels,
    TaskOutput,
)
from ...core.protocols import CATEGORY_TO_CLASS, OCCUPANCY_FREE, OCCUPANCY_SHAPE_XYZ
from ..detection.tables import scenes_of_split

CATEGORIES = (
    'vehicle.car', 'human.pedestrian.adult', 'movable_object.barrier', 'vehicle.truck', 'vehicle.bicycle',
    'movable_object.trafficcone', 'vehicle.bus.rigid', 'vehicle.trailer', 'vehicle.motorcycle',
    'vehicle.construction')
CLASSES = tuple(CATEGORY_TO_CLASS[name] for name in CATEGORIES)


def write_split(folder: Path, samples: int, objects: int = 31, seed: int = 0) -> np.ndarray:
    """Tables of a val split: 150 official scene names, `objects` annotations a sample.

    Returns:
        The centres `(S, objects, 3)`.
    """
    rng = np.random.default_rng(seed)
    scenes = sorted(scenes_of_split(folder.parent, folder.name, 'nuscenes_val'))
    centres = rng.uniform(-45, 45, (samples, objects, 3)).round(3)

    tables = {
        'scene': [dict(token=name, name=name) for name in scenes],
        'sensor': [dict(token='l', channel='LIDAR_TOP', modality='lidar')],
        'calibrated_sensor': [dict(token='l', sensor_token='l')],
        'visibility': [dict(token='4', level='v80-100')],
        'attribute': [dict(token='a', name='vehicle.parked')],
        'category': [dict(token=str(c), name=name) for c, name in enumerate(CATEGORIES)],
        'instance': [dict(token=str(i), category_token=str(i % 10)) for i in range(objects)],
        'sample': [], 'sample_data': [], 'ego_pose': [], 'sample_annotation': []}

    for i in range(samples):
        scene = scenes[i % len(scenes)]
        tables['sample'].append(dict(token=f's{i}', timestamp=i * 500000, scene_token=scene))
        tables['sample_data'].append(
            dict(
                token=f'd{i}', sample_token=f's{i}', ego_pose_token=f'p{i}', calibrated_sensor_token='l',
                is_key_frame=True)
        )
        tables['ego_pose'].append(dict(token=f'p{i}', translation=[0, 0, 0], rotation=[1, 0, 0, 0]))
        tables['sample_annotation'] += [
            dict(
                token=f'{i}-{o}', sample_token=f's{i}', instance_token=str(o), attribute_tokens=[],
                translation=centres[i, o].tolist(), size=[2.0, 4.5, 1.6], rotation=[1.0, 0.0, 0.0, 0.0],
                prev='', next='', num_lidar_pts=5, num_radar_pts=0, visibility_token='4')
            for o in range(objects)
        ]

    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f'{name}.json').write_text(json.dumps(rows), encoding='utf-8')
    return centres


_BOX = (
    '{{"sample_token": "s{}", "translation": [{:.6f}, {:.6f}, {:.6f}], "size": [1.96, 4.62, 1.73], '
    '"rotation": [{:.9f}, 0.0, 0.0, {:.9f}], "velocity": [{:.6f}, {:.6f}], "detection_name": "{}", '
    '"detection_score": {:.9f}, "attribute_name": ""}}'
)


def write_results(path: Path, centres: np.ndarray, boxes: int, seed: int = 1) -> None:
    """A results file with `boxes` detections a sample, a third of them near an object, the rest anywhere."""
    rng = np.random.default_rng(seed)
    with path.open('w', encoding='utf-8') as file:
        file.write('{"meta": {"use_camera": true}, "results": {')

        for s, around in enumerate(centres):
            nearest = np.arange(boxes) % (3 * len(around))
            known = nearest < len(around)
            place = np.where(
                known[:, None], around[np.minimum(nearest, len(around) - 1)], rng.uniform(-55, 55, (boxes, 3))
            )
            place = place + rng.normal(size=(boxes, 3)) * 0.5
            half_yaw = rng.uniform(-1.6, 1.6, boxes)
            velocity = rng.normal(size=(boxes, 2))
            score = rng.random(boxes) * np.where(known, 1.0, 0.5)

            rows = [
                _BOX.format(
                    s, *place[b], np.cos(half_yaw[b]), np.sin(half_yaw[b]), *velocity[b],
                    CLASSES[nearest[b] % 10], score[b])
                for b in range(boxes)
            ]
            file.write(f'{", " if s else ""}"s{s}": [{", ".join(rows)}]')

        file.write('}}')


def make_sample(i: int) -> tuple[TaskOutput, Annotations]:
    """A sample with a street's worth of map, voxels and lanes, and predictions of them."""
    rng = np.random.default_rng(i)
    pose = np.eye(4)
    pose[0, 3] = 4.0 * i
    ego_T_lidar = np.eye(4)
    ego_T_lidar[:3, 3] = 0.96, 0.0, 1.84
    frame = Frame(f'g{i}', i, pose, f'scene{i // 40}', 'singapore-onenorth', ego_T_lidar)

    layers = _make_layers(rng)
    grid = np.full(OCCUPANCY_SHAPE_XYZ, OCCUPANCY_FREE, np.uint8)
    grid[:, :, 2] = 11
    for _ in range(150):
        x, y = rng.integers(0, 190, 2)
        grid[x:x + 8, y:y + 4, 3:3 + rng.integers(1, 10)] = rng.integers(0, 17)
    predicted = np.where(rng.random(grid.shape) < 0.02, 16, grid).astype(np.uint8)
    mask = (rng.random(grid.shape) < 0.4).astype(np.uint8)

    lines = tuple(
        np.stack([np.linspace(-35, 35, 30), y + rng.normal(size=30).cumsum() * 0.1], 1).astype(np.float32)
        for y in rng.uniform(-14, 14, 14)
    )
    lanes = Lanes(
        rng.uniform(-15, 15, (50, 20, 2)).astype(np.float32), rng.random(50).astype(np.float32),
        rng.integers(0, 4, 50))

    probabilities = rng.random((6, 200, 200), dtype=np.float32)
    confidence = rng.random(grid.shape, dtype=np.float32).astype(np.float16)
    output = TaskOutput(
        frame, None, MapSegmentation(probabilities, (-50.0, 50.0), (-50.0, 50.0)),
        Occupancy(predicted, confidence), lanes)
    truth = Annotations(
        frame.token, None, layers, OccupancyLabels(grid, mask, mask),
        LanePolylines(lines, rng.integers(0, 4, 14), 65.0))
    return output, truth


def _make_layers(rng: np.random.Generator) -> MapLayers:
    """Twelve discs of each kind of area, and twenty dividers."""
    def disc() -> np.ndarray:
        x_m, y_m = rng.uniform(-45, 45, 2)
        radius_m = rng.uniform(3, 20)
        angle = np.linspace(0, 2 * np.pi, 40)[:, None]
        return np.concatenate([x_m + radius_m * np.cos(angle), y_m + radius_m * np.sin(angle)], 1)

    polygons = {
        name: tuple((disc(), ()) for _ in range(12))
        for name in ('drivable_area', 'ped_crossing', 'walkway', 'stop_line', 'carpark_area')
    }
    dividers = tuple(np.array([[-60.0, y], [60.0, y + 3]]) for y in rng.uniform(-40, 40, 20))
    return MapLayers(polygons, {'divider': dividers}, 60.0)
