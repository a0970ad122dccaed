"""The judges' seconds beside the official one's: on real detections, on a results file of a whole split, on
grids and lanes."""
from __future__ import annotations

import gzip
import json
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..detection.file import read_detection_results
from ..detection.metric import judge_detection
from ..detection.truth import GroundTruth
from ..judge import Judge
from .made_samples import made_moment, write_results, write_split


def best_of(count: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest of some runs in seconds, and what the last one gave."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - started)
    return min(seconds), answer


def time_real_detections(root: Path, scratch: Path) -> dict[str, float]:
    """Both judges on the 81 real samples; both read the same plain JSON file.

    Args:
        root: of the real frames, with `detections` in it.
        scratch: where the plain file goes.
    """
    from nuscenes import NuScenes
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval
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
    return {
        'devkit tables s': load_s, 'devkit DetectionEval s': devkit_s, 'our tables s': truth_s,
        'our judging s': ours_s, 'times faster, tables in memory': devkit_s / ours_s,
        'times faster, from files': (devkit_s + load_s) / (ours_s + truth_s),
        'largest difference of NDS, mAP': difference}


def time_big_file(samples: int, boxes: int, scratch: Path, evaluate: Sequence[str]) -> dict[str, float]:
    """A made split judged in a process of its own.

    Args:
        samples, boxes: how many, and how many detections each.
        scratch: where the made files go.
        evaluate: the command that judges a results file, without its arguments.
    """
    root, path = scratch / 'made', scratch / 'made.json'
    started = time.perf_counter()
    write_results(path, write_split(root / 'v1.0-trainval', samples), boxes)
    made_s = time.perf_counter() - started
    command = [*evaluate, str(path), '--root', str(root), '--version', 'v1.0-trainval', '--split', 'val',
               '--out', str(scratch / 'made_metrics.json')]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    nds = json.loads((scratch / 'made_metrics.json').read_text())['metrics']['detection/NDS']
    return {
        'samples': samples, 'boxes': samples * boxes, 'file MB': path.stat().st_size / 1e6,
        'making s': made_s, 'judging s (process start to figures)': seconds, 'peak memory GB': peak_gb,
        'NDS of the made file': nds}


def time_grids(count: int, samples: int) -> dict[str, float]:
    """Each task alone on `count` samples (20 made ones, taken in turn at new places)."""
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
            frame = replace(
                output.frame, token=f'g{i}', timestamp_ns=i, global_T_ego=pose, scene=f'scene{i // 40}'
            )
            summaries.append(judge.summarise(replace(output, frame=frame), truth))
        judge.verdict(summaries)
        seconds = time.perf_counter() - started
        found |= {
            f'{task}: {count} samples s': seconds,
            f'{task}: {samples} samples min': seconds / count * samples / 60}
    return found
