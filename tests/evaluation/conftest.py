"""A small nuScenes root made of tables only, and the official evaluation to compare with."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perception.core.protocols import VISIBILITY_LEVELS

CATEGORIES = {
    'car': 'vehicle.car', 'truck': 'vehicle.truck', 'bus': 'vehicle.bus.rigid', 'trailer': 'vehicle.trailer',
    'construction_vehicle': 'vehicle.construction', 'pedestrian': 'human.pedestrian.adult',
    'motorcycle': 'vehicle.motorcycle', 'bicycle': 'vehicle.bicycle',
    'traffic_cone': 'movable_object.trafficcone', 'barrier': 'movable_object.barrier',
    'rack': 'static_object.bicycle_rack', 'animal': 'animal'}
ATTRIBUTES = (
    'vehicle.moving', 'vehicle.parked', 'vehicle.stopped', 'pedestrian.moving', 'pedestrian.standing',
    'pedestrian.sitting_lying_down', 'cycle.with_rider', 'cycle.without_rider')
FLAGS = {'use_camera': True, 'use_lidar': False, 'use_radar': False, 'use_map': False, 'use_external': False}


def attribute_for(name: str, rng: np.random.Generator) -> str:
    kind = {
        'pedestrian': 'pedestrian', 'bicycle': 'cycle', 'motorcycle': 'cycle', 'traffic_cone': '',
        'barrier': '', 'rack': '', 'animal': ''}.get(name, 'vehicle')
    return str(rng.choice([a for a in ATTRIBUTES if a.startswith(kind)])) if kind else ''


def quaternion(yaw: float, rng: np.random.Generator | None = None) -> list[float]:
    tilt = rng.normal(size=2) * 0.02 if rng is not None else (0.0, 0.0)
    q = np.array([np.cos(yaw / 2), *tilt, np.sin(yaw / 2)])
    return (q / np.linalg.norm(q)).tolist()


def write_tables(root: Path, scenes: int = 2, samples: int = 6, objects: int = 40, seed: int = 0) -> Path:
    """Tables of a world where objects of every class drift around the car; some are only seen once, some have
    no points."""
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict]] = {
        name: []
        for name in (
            'category', 'attribute', 'visibility', 'instance', 'sensor', 'calibrated_sensor', 'ego_pose',
            'log', 'scene', 'sample', 'sample_data', 'sample_annotation', 'map')
    }
    tables['category'] = [dict(token=f'cat-{n}', name=c, description='') for n, c in CATEGORIES.items()]
    tables['attribute'] = [dict(token=f'attr-{a}', name=a, description='') for a in ATTRIBUTES]
    levels = enumerate(VISIBILITY_LEVELS, 1)
    tables['visibility'] = [dict(token=str(i), level=level, description='') for i, level in levels]
    tables['sensor'] = [dict(token='lidar', channel='LIDAR_TOP', modality='lidar'),
                        dict(token='front', channel='CAM_FRONT', modality='camera')]
    tables['calibrated_sensor'] = [
        dict(
            token=f'cs-{s}', sensor_token=s, translation=[0.9, 0, 1.8], rotation=[1, 0, 0, 0],
            camera_intrinsic=[])
        for s in ('lidar', 'front')
    ]
    tables['log'] = [dict(token='log', logfile='', vehicle='', date_captured='', location='boston-seaport')]
    tables['map'] = [
        dict(token='map', log_tokens=['log'], category='semantic_prior', filename='maps/one.png')
    ]
    for s, scene in enumerate(('scene-0103', 'scene-0916', 'scene-0061')[:scenes]):
        _write_scene(tables, scene, s, samples, objects, rng)
    folder = root / 'v1.0-mini'
    folder.mkdir(parents=True, exist_ok=True)
    (root / 'maps').mkdir(exist_ok=True)
    from PIL import Image
    Image.new('L', (4, 4)).save(root / 'maps' / 'one.png')
    for name, rows in tables.items():
        (folder / f'{name}.json').write_text(json.dumps(rows))
    return root


def _write_scene(tables, scene, s, samples, objects, rng) -> None:
    tokens = [f'{scene}-{k}' for k in range(samples)]
    tables['scene'].append(dict(token=scene, name=scene, log_token='log', nbr_samples=samples, description='',
                                first_sample_token=tokens[0], last_sample_token=tokens[-1]))
    for k, token in enumerate(tokens):
        time = 1_500_000_000_000_000 + s * 10 ** 9 + k * 500_000
        tables['sample'].append(
            dict(
                token=token, timestamp=time, scene_token=scene, prev=tokens[k - 1] if k else '',
                next=tokens[k + 1] if k + 1 < samples else '')
        )
        for sensor in ('lidar', 'front'):
            pose = f'pose-{token}-{sensor}'
            place = [600 + 2.0 * k + (sensor == 'front'), 1600.0, 0.0]
            tables['ego_pose'].append(
                dict(token=pose, timestamp=time, translation=place, rotation=quaternion(0.3))
            )
            tables['sample_data'].append(
                dict(
                    token=f'sd-{token}-{sensor}', sample_token=token, ego_pose_token=pose,
                    calibrated_sensor_token=f'cs-{sensor}', timestamp=time, fileformat='pcd',
                    is_key_frame=True, height=0, width=0, filename='', prev='', next='')
            )
    names = list(CATEGORIES)
    for o in range(objects):
        _write_object(tables, f'{scene}-object-{o}', names[o % len(names)], tokens, rng)


def _write_object(tables, instance, name, tokens, rng) -> None:
    seen = [t for t in tokens if rng.random() < 0.7] or [tokens[0]]
    start, speed = rng.uniform(-55, 55, 2), rng.normal(size=2) * 3
    if name in ('bicycle', 'motorcycle', 'rack'):
        start, speed = rng.uniform(5, 15, 2), speed * 0
    size = [8.0, 9.0, 3.0] if name == 'rack' else (rng.uniform(0.5, 4, 3)).tolist()
    yaw, attribute = rng.uniform(-np.pi, np.pi), attribute_for(name, rng)
    tables['instance'].append(dict(token=instance, category_token=f'cat-{name}', nbr_annotations=len(seen),
                                   first_annotation_token='', last_annotation_token=''))
    rows = [f'{instance}@{t}' for t in seen]
    for i, token in enumerate(seen):
        k = tokens.index(token)
        centre = [600 + 2.0 * k + start[0] + speed[0] * k / 2, 1600 + start[1] + speed[1] * k / 2, 1.0]
        tables['sample_annotation'].append(
            dict(
                token=rows[i], sample_token=token, instance_token=instance,
                visibility_token=str(rng.integers(1, 5)),
                attribute_tokens=[f'attr-{attribute}'] if attribute and rng.random() < 0.9 else [],
                translation=centre, size=size, rotation=quaternion(yaw, rng if name == 'rack' else None),
                prev=rows[i - 1] if i else '', next=rows[i + 1] if i + 1 < len(seen) else '',
                num_lidar_pts=int(rng.integers(0, 5)), num_radar_pts=int(rng.integers(0, 2)))
        )


@pytest.fixture(scope='session')
def small_root(tmp_path_factory) -> Path:
    """Root of a made nuScenes set: version v1.0-mini, split mini_val of 12 samples, every class, racks, no
    sensor files."""
    return write_tables(tmp_path_factory.mktemp('small_nuscenes'))


@pytest.fixture(scope='session')
def small_truth(small_root):
    from perception.evaluation.detection.truth import GroundTruth
    return GroundTruth.from_tables(small_root, 'v1.0-mini', 'mini_val')


def boxes_as_results(truth, noise: float = 0.0, copies: int = 1, seed: int = 0, scores: int = 0) -> dict:
    """A results file made of the truth, moved by noise; `scores` > 0 allows only so many different scores
    (ties)."""
    from perception.core.protocols import ATTRIBUTES as ORDER
    from perception.core.protocols import DETECTION_CLASSES
    rng = np.random.default_rng(seed)
    results: dict[str, list[dict]] = {t: [] for t in rng.permutation(truth.tokens).tolist()}
    b = truth.boxes if noise or scores else truth.boxes.select(truth.boxes.points_M != 0)
    for row in np.repeat(np.arange(len(b)), copies):
        score = float(rng.integers(1, scores + 1) / scores) if scores else float(rng.random())
        token, name = truth.tokens[b.sample_M[row]], DETECTION_CLASSES[b.label_M[row]]
        attribute = ORDER[b.attribute_M[row]] if b.attribute_M[row] >= 0 else ''
        if noise and rng.random() < 0.3:
            attribute = attribute_for(name, rng)
        velocity = np.nan_to_num(b.velocity_M2[row]) + rng.normal(size=2) * noise
        results[token].append(
            dict(
                sample_token=token, translation=(b.centre_M3[row] + rng.normal(size=3) * noise).tolist(),
                size=(b.size_M3[row] * np.exp(rng.normal(size=3) * noise * 0.3)).tolist(),
                rotation=quaternion(b.yaw_M[row] + rng.normal() * noise), velocity=velocity.tolist(),
                detection_name=name, detection_score=1.0 if not noise and not scores else score,
                attribute_name=attribute)
        )
    return {'meta': dict(FLAGS), 'results': results}


@pytest.fixture(scope='session')
def results_from_truth():
    return boxes_as_results


@pytest.fixture(scope='session')
def official():
    """The devkit's summary of a results file: `official(root, path_or_dict, split)`; skips where the devkit
    is absent."""
    pytest.importorskip(
        'nuscenes', reason='nuscenes-devkit is not installed: no official evaluation to compare with'
    )
    from nuscenes import NuScenes
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval
    loaded: dict[Path, NuScenes] = {}

    def evaluate(root: Path, results: Path, out: Path, split: str = 'mini_val') -> dict:
        nusc = loaded.setdefault(root, NuScenes('v1.0-mini', str(root), verbose=False))
        return DetectionEval(nusc, config_factory('detection_cvpr_2019'), str(results), split, str(out),
                             verbose=False).evaluate()[0].serialize()

    return evaluate
