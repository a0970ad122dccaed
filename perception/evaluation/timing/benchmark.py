"""Our seconds beside the official code's: real detections, a results file of a whole split, grids, lanes."""
from __future__ import annotations

import gzip
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.contracts import Frame
from ...core.reading import read_json
from ..detection.file import read_detection_results
from ..detection.protocol import score_detection
from ..detection.truth import GroundTruth
from ..suite import MetricSuite
from .made_samples import make_sample, write_results, write_split


def best_of(count: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest of some runs in seconds, and what the last one gave."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)

    return min(seconds), result


def time_real_detections(root: Path, scratch: Path) -> dict[str, float]:
    """Both on the 81 real samples; both read the same plain JSON file.

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
    score_detection(read_detection_results(path), truth)
    truth_s, truth = best_of(3, read_truth)
    ours_s, scores = best_of(3, lambda: score_detection(read_detection_results(path), truth))
    difference = max(abs(scores.nds - metrics.nd_score), abs(scores.mean_ap - metrics.mean_ap))
    return {
        'devkit tables s': load_s, 'devkit DetectionEval s': devkit_s, 'our tables s': truth_s,
        'our evaluation s': ours_s, 'times faster, tables in memory': devkit_s / ours_s,
        'times faster, from files': (devkit_s + load_s) / (ours_s + truth_s),
        'largest difference of NDS, mAP': difference}


def time_big_file(samples: int, boxes: int, scratch: Path, evaluate: Sequence[str]) -> dict[str, float]:
    """A made split evaluated in a process of its own.

    Args:
        samples: how many.
        boxes: detections of each.
        scratch: where the made files go.
        evaluate: the command that evaluates a results file, without its arguments.
    """
    root, path, out = scratch / 'made', scratch / 'made.json', scratch / 'made_metrics.json'
    started = time.perf_counter()
    write_results(path, write_split(root / 'v1.0-trainval', samples), boxes)
    made_s = time.perf_counter() - started

    command = [*evaluate, str(path), '--root', str(root), '--version', 'v1.0-trainval', '--split', 'val',
               '--out', str(out)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started

    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    nds = read_json(out)['metrics']['detection/NDS']
    return {
        'samples': samples, 'boxes': samples * boxes, 'file MB': path.stat().st_size / 1e6,
        'making s': made_s, 'evaluation s (process start to scores)': seconds, 'peak memory GB': peak_gb,
        'NDS of the made file': nds}


def time_grids(count: int, samples: int) -> dict[str, float]:
    """Each task alone on `count` samples, extrapolated to `samples`.

    Twenty made ones are taken in turn at new places.
    """
    made = [make_sample(i) for i in range(20)]
    times: dict[str, float] = {}

    for task in made[0][0].predictions():
        suite = MetricSuite((task,))
        suite.report([suite.summarise(*made[0])])  # compiles

        started = time.perf_counter()
        summaries = []
        for i in range(count):
            output, truth = made[i % len(made)]
            summaries.append(suite.summarise(replace(output, frame=_at_place(output.frame, i)), truth))
        suite.report(summaries)

        seconds = time.perf_counter() - started
        times[f'{task}: {count} samples s'] = seconds
        times[f'{task}: {samples} samples min'] = seconds / count * samples / 60
    return times


def _at_place(frame: Frame, i: int) -> Frame:
    """The frame as the i-th of a long drive, 4 m behind each other."""
    pose = frame.global_T_ego.copy()
    pose[0, 3] = 4.0 * i
    return replace(frame, token=f'g{i}', timestamp_ns=i, global_T_ego=pose, scene=f'scene{i // 40}')
