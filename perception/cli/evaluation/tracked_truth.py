"""True boxes with noise as detections: how well they are tracked, and how long tracking and scoring take."""
from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .track import follow_scenes

ROWS = {
    'exact boxes': {}, '0.3 m off': dict(noise_m=0.3), '0.3 m off, 20 % lost': dict(noise_m=0.3, lost=0.2),
    'the same without velocity': dict(noise_m=0.3, lost=0.2, with_velocity=False),
    '0.6 m off, 40 % lost': dict(noise_m=0.6, lost=0.4)}
"""What is done to the boxes, by name."""


def time_tracks(root: Path, version: str = 'v1.0-mini', split: str = 'mini_val') -> dict[str, float]:
    """AMOTA and switches of every row and both motions; times of ours and, with motmetrics, of the devkit's.

    Args:
        root: of nuScenes-format tables; no sensor file is read.
        version: folder of tables below it.
        split: of them.
    """
    from ...evaluation.detection.file import TRACKING, detection_results_from
    from ...evaluation.detection.truth import GroundTruth
    from ...evaluation.tracking.file import write_tracking_results
    from ...evaluation.tracking.protocol import score_tracking
    from ...tracking import Tracker, TrackerOptions

    truth, found, records = GroundTruth.from_tables(root, version, split), {}, {}
    for name, options in ROWS.items():
        boxes = noisy_boxes(truth.boxes, **options)
        for motion in ('velocity', 'kalman'):
            tracker, began = Tracker(TrackerOptions(motion)), time.process_time()
            records = follow_scenes(tracker, boxes, truth.drives)
            took_ms = 1e3 * (time.process_time() - began) / len(truth)

            tracks = detection_results_from({'meta': {}, 'results': records}, formats=(TRACKING,))
            began = time.perf_counter()
            scores = score_tracking(tracks, truth)
            found |= {
                f'{name}, {motion}: AMOTA': scores.mean('amota'),
                f'{name}, {motion}: IDS': scores.mean('ids'), f'{name}, {motion}: CPU ms a frame': took_ms}
    found['our scoring s'] = time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        path = write_tracking_results(Path(folder) / 'tracks.json', {}, records)
        return found | _official(path, Path(root), version, split, scores.mean('amota'))


def noisy_boxes(boxes: Any, noise_m: float = 0.0, lost: float = 0.0, with_velocity: bool = True) -> Any:
    """A `BoxTable` of true boxes with a point inside, as a detector might find them; scores say nothing."""
    from dataclasses import replace

    rng = np.random.default_rng(0)
    boxes = boxes.select((boxes.points_M != 0) & (rng.random(len(boxes)) >= lost))
    centre_M3 = boxes.centre_M3 + noise_m * rng.normal(size=(len(boxes), 3))
    velocity_M2 = np.nan_to_num(boxes.velocity_M2) + noise_m * rng.normal(size=(len(boxes), 2))
    return replace(
        boxes, centre_M3=centre_M3, velocity_M2=velocity_M2 if with_velocity else 0 * velocity_M2,
        score_M=rng.random(len(boxes)))


def _official(path: Path, root: Path, version: str, split: str, amota: float) -> dict[str, float]:
    """The devkit's time and how far its AMOTA is from ours; nothing without motmetrics."""
    from ...evaluation.errors import ResultError
    from ...evaluation.evaluate import Split, evaluate_official
    began = time.perf_counter()
    try:
        official = evaluate_official(path, Split(root, version, split))
    except ResultError as error:
        print(f'skipped: {error}')
        return {}
    took_s, off = time.perf_counter() - began, abs(official['tracking/AMOTA'] - amota)
    return {'devkit s, tables included': took_s, 'difference of AMOTA': off}
