"""Time the judges beside the official one, in one run, and print one table.

    python tools/benchmark_evaluation.py [--real ROOT] [--samples 6019] [--boxes 200] [--grids 500] [--out FILE]

1. The real mini_val detections, judged by the devkit's DetectionEval and by ours, figures compared.
2. A made val split (tables and a results file of --samples x --boxes), judged by tools/evaluate.py in its own process.
3. Map, occupancy (with rays) and lanes of --grids made samples, extrapolated to --samples.
"""
from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
VAL_SAMPLES = 6019


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--real', type=Path, default=ROOT.parent / 'shared' / 'real_frames' / 'nuscenes')
    parser.add_argument('--samples', type=int, default=VAL_SAMPLES)
    parser.add_argument('--boxes', type=int, default=200)
    parser.add_argument('--grids', type=int, default=500)
    parser.add_argument('--parts', nargs='+', choices=['real', 'big', 'grids'], default=['real', 'big', 'grids'])
    parser.add_argument('--scratch', type=Path, help='where the made files go (default: a temporary folder)')
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    return parser.parse_args()


def best_of(count: int, call) -> tuple[float, object]:
    """Shortest of some runs in seconds, and what the last one gave."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - started)
    return min(seconds), answer


def real_detections(root: Path, scratch: Path) -> dict[str, float]:
    """Both judges on the 81 real samples; both read the same plain JSON file."""
    from nuscenes import NuScenes
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    from perception.evaluation.detection import judge_detection
    from perception.evaluation.detection_file import read_detection_results
    from perception.evaluation.truth import GroundTruth
    path = scratch / 'real.json'
    with gzip.open(root / 'detections' / 'mini_val_cc3dt_pure_det.json.gz') as file:
        path.write_bytes(file.read())
    load_s, tables = best_of(1, lambda: NuScenes('v1.0-mini', str(root), verbose=False))
    config = config_factory('detection_cvpr_2019')

    def official():
        return DetectionEval(tables, config, str(path), 'mini_val', str(scratch), verbose=False).evaluate()[0]

    devkit_s, metrics = best_of(2, official)

    def read_truth() -> GroundTruth:
        return GroundTruth.from_tables(root, 'v1.0-mini', 'mini_val')

    truth = read_truth()
    judge_detection(read_detection_results(path), truth)
    truth_s, truth = best_of(3, read_truth)
    ours_s, scores = best_of(3, lambda: judge_detection(read_detection_results(path), truth))
    difference = max(abs(scores.nds - metrics.nd_score), abs(scores.mean_ap - metrics.mean_ap))
    return {'devkit tables s': load_s, 'devkit DetectionEval s': devkit_s, 'our tables s': truth_s, 'our judging s': ours_s,
            'times faster, tables in memory': devkit_s / ours_s,
            'times faster, from files': (devkit_s + load_s) / (ours_s + truth_s), 'largest difference of NDS, mAP': difference}


def write_split(folder: Path, samples: int, objects: int = 31, seed: int = 0) -> np.ndarray:
    """Tables of a val split: 150 official scene names, `objects` annotations a sample. Returns the centres `(S, objects, 3)`."""
    rng = np.random.default_rng(seed)
    names = (ROOT / 'data' / 'splits' / 'nuscenes_val.txt').read_text().split()
    categories = ['vehicle.car', 'human.pedestrian.adult', 'movable_object.barrier', 'vehicle.truck', 'vehicle.bicycle',
                  'movable_object.trafficcone', 'vehicle.bus.rigid', 'vehicle.trailer', 'vehicle.motorcycle',
                  'vehicle.construction']
    folder.mkdir(parents=True)
    centres = rng.uniform(-45, 45, (samples, objects, 3)).round(3)
    tables = {
        'scene': [dict(token=n, name=n) for n in names], 'sensor': [dict(token='l', channel='LIDAR_TOP', modality='lidar')],
        'calibrated_sensor': [dict(token='l', sensor_token='l')], 'attribute': [dict(token='a', name='vehicle.parked')],
        'category': [dict(token=str(c), name=n) for c, n in enumerate(categories)],
        'instance': [dict(token=str(i), category_token=str(i % 10)) for i in range(objects)],
        'sample': [dict(token=f's{i}', timestamp=i * 500000, scene_token=names[i % len(names)]) for i in range(samples)],
        'sample_data': [dict(token=f'd{i}', sample_token=f's{i}', ego_pose_token=f'p{i}', calibrated_sensor_token='l',
                             is_key_frame=True) for i in range(samples)],
        'ego_pose': [dict(token=f'p{i}', translation=[0, 0, 0], rotation=[1, 0, 0, 0]) for i in range(samples)],
        'sample_annotation': [dict(token=f'{i}-{o}', sample_token=f's{i}', instance_token=str(o), attribute_tokens=[],
                                   translation=centres[i, o].tolist(), size=[2.0, 4.5, 1.6], rotation=[1.0, 0.0, 0.0, 0.0],
                                   prev='', next='', num_lidar_pts=5, num_radar_pts=0, visibility_token='4')
                              for i in range(samples) for o in range(objects)]}
    for name, rows in tables.items():
        (folder / f'{name}.json').write_text(json.dumps(rows))
    return centres


def write_results(path: Path, centres: np.ndarray, boxes: int, seed: int = 1) -> None:
    """A results file with `boxes` detections a sample, a third of them near an object, the rest anywhere."""
    from perception.contracts import DETECTION_CLASSES
    classes = ('car', 'pedestrian', 'barrier', 'truck', 'bicycle', 'traffic_cone', 'bus', 'trailer', 'motorcycle',
               'construction_vehicle')
    assert set(classes) == set(DETECTION_CLASSES)
    rng = np.random.default_rng(seed)
    row = ('{{"sample_token": "s{}", "translation": [{:.6f}, {:.6f}, {:.6f}], "size": [1.96, 4.62, 1.73], "rotation": [{:.9f}, '
           '0.0, 0.0, {:.9f}], "velocity": [{:.6f}, {:.6f}], "detection_name": "{}", "detection_score": {:.9f}, '
           '"attribute_name": ""}}')
    with path.open('w') as file:
        file.write('{"meta": {"use_camera": true}, "results": {')
        for s, around in enumerate(centres):
            near = np.arange(boxes) % (3 * len(around))
            known = near < len(around)
            place = np.where(known[:, None], around[np.minimum(near, len(around) - 1)], rng.uniform(-55, 55, (boxes, 3)))
            place, half = place + rng.normal(size=(boxes, 3)) * 0.5, rng.uniform(-1.6, 1.6, boxes)
            velocity, score = rng.normal(size=(boxes, 2)), rng.random(boxes) * np.where(known, 1.0, 0.5)
            file.write((', ' if s else '') + f'"s{s}": [' + ', '.join(
                row.format(s, *place[b], np.cos(half[b]), np.sin(half[b]), *velocity[b], classes[near[b] % 10], score[b])
                for b in range(boxes)) + ']')
        file.write('}}')


def big_file(samples: int, boxes: int, scratch: Path) -> dict[str, float]:
    """tools/evaluate.py on a made split, in its own process."""
    root, path = scratch / 'made', scratch / 'made.json'
    started = time.perf_counter()
    write_results(path, write_split(root / 'v1.0-trainval', samples), boxes)
    made_s = time.perf_counter() - started
    command = [sys.executable, str(ROOT / 'tools' / 'evaluate.py'), str(path), '--root', str(root), '--version',
               'v1.0-trainval', '--split', 'val', '--out', str(scratch / 'made_metrics.json')]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    nds = json.loads((scratch / 'made_metrics.json').read_text())['metrics']['detection/NDS']
    return {'samples': samples, 'boxes': samples * boxes, 'file MB': path.stat().st_size / 1e6, 'making s': made_s,
            'judging s (process start to figures)': seconds, 'peak memory GB': peak_gb, 'NDS of the made file': nds}


def made_moment(i: int):
    """A sample with a street's worth of map, voxels and lanes, and an answer to it."""
    from perception.contracts import (
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
    rng = np.random.default_rng(i)
    pose = np.eye(4)
    pose[0, 3] = 4.0 * i
    frame = Frame(f'g{i}', i, pose, f'scene{i // 40}', 'singapore-onenorth')

    def ring(x, y, size):
        angle = np.linspace(0, 2 * np.pi, 40)[:, None]
        return np.concatenate([x + size * np.cos(angle), y + size * np.sin(angle)], 1)

    layers = MapLayers({name: tuple((ring(*rng.uniform(-45, 45, 2), rng.uniform(3, 20)), ()) for _ in range(12))
                        for name in ('drivable_area', 'ped_crossing', 'walkway', 'stop_line', 'carpark_area')},
                       {'divider': tuple(np.array([[-60.0, y], [60.0, y + 3]]) for y in rng.uniform(-40, 40, 20))}, 60.0)
    grid = np.full((200, 200, 16), 17, np.uint8)
    grid[:, :, 2] = 11
    for _ in range(150):
        x, y = rng.integers(0, 190, 2)
        grid[x:x + 8, y:y + 4, 3:3 + rng.integers(1, 10)] = rng.integers(0, 17)
    answer = np.where(rng.random(grid.shape) < 0.02, 16, grid).astype(np.uint8)
    mask = (rng.random(grid.shape) < 0.4).astype(np.uint8)
    lines = tuple(np.stack([np.linspace(-35, 35, 30), y + rng.normal(size=30).cumsum() * 0.1], 1).astype(np.float32)
                  for y in rng.uniform(-14, 14, 14))
    lanes = Lanes(rng.uniform(-15, 15, (50, 20, 2)).astype(np.float32), rng.random(50).astype(np.float32), rng.integers(0, 4, 50))
    output = TaskOutput(frame, None, MapSegmentation(rng.random((6, 200, 200), dtype=np.float32), (-50.0, 50.0), (-50.0, 50.0)),
                        Occupancy(answer, rng.random(grid.shape, dtype=np.float32).astype(np.float16)), lanes)
    return output, Annotations(frame.token, None, layers, OccupancyLabels(grid, mask, mask),
                               LanePolylines(lines, rng.integers(0, 4, 14), 65.0))


def grids(count: int, samples: int) -> dict[str, float]:
    """Each task alone on `count` samples (20 made ones, taken in turn at new places)."""
    from dataclasses import replace

    from perception.evaluation.judge import Judge
    made = [made_moment(i) for i in range(20)]
    found: dict[str, float] = {}
    for task in ('map_segmentation', 'occupancy', 'lanes'):
        judge = Judge((task,))
        judge.verdict([judge.summarise(*made[0])])
        started = time.perf_counter()
        summaries = []
        for i in range(count):
            output, truth = made[i % len(made)]
            pose = output.frame.global_T_ego.copy()
            pose[0, 3] = 4.0 * i
            frame = replace(output.frame, token=f'g{i}', timestamp_ns=i, global_T_ego=pose, scene=f'scene{i // 40}')
            summaries.append(judge.summarise(replace(output, frame=frame), truth))
        judge.verdict(summaries)
        seconds = time.perf_counter() - started
        found |= {f'{task}: {count} samples s': seconds, f'{task}: {samples} samples min': seconds / count * samples / 60}
    return found


def main() -> None:
    """Run the parts and print the table."""
    args = parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        scratch = Path(folder)
        if 'real' in args.parts:
            if (args.real / 'detections').is_dir():
                found['81 real samples'] = real_detections(args.real, scratch)
            else:
                print(f'skipped: no real detections at {args.real}')
        if 'big' in args.parts:
            found['made results file'] = big_file(args.samples, args.boxes, scratch)
        if 'grids' in args.parts:
            found['map, occupancy, lanes'] = grids(args.grids, args.samples)
    for part, figures in found.items():
        print(part)
        print('\n'.join(f'  {name:<44}{value:>14.6g}' for name, value in figures.items()))
    print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}')
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({**found, 'load': os.getloadavg()[0], 'cores': os.cpu_count()}, indent=1))


if __name__ == '__main__':
    main()
