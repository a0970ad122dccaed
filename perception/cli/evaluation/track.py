"""Detections of whole drives -> tracks, in the official results format.

    perception track RESULTS --root ROOT --version V --split S [--motion kalman] [--out FILE]

RESULTS is a nuScenes detection results file (.json, .json.gz) or a folder that `perception test` wrote.
Scenes and times come from the tables in ROOT/V; no annotation and no sensor file is read.
`perception evaluate FILE` scores what is written.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from ..options import at_least, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('results', type=Path, help='detection results: a file, or the folder of a test')
    parser.add_argument('--root', type=Path, required=True, help='nuScenes-format dataroot')
    parser.add_argument('--version', required=True, help='folder of tables below it, e.g. v1.0-trainval')
    parser.add_argument('--split', required=True, help='e.g. val, mini_val, a name of splits.json, or all')
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='default: tracks_nusc.json beside the detections')

    # how it follows
    parser.add_argument(
        '--motion', choices=['velocity', 'kalman'], default='velocity',
        help="velocity: by each detection's own velocity (default); kalman: filtered")
    parser.add_argument(
        '--min-score', type=float, default=0.0, help='lower detections are left out (default: 0)')
    parser.add_argument(
        '--birth-score', type=float, default=0.0, help='lower detections begin no track (default: 0)')
    parser.add_argument(
        '--min-hits', type=at_least(1), default=1, help='detections before a track is given out (default: 1)')
    parser.add_argument(
        '--max-age-s', type=positive, default=1.5, help='a track unseen for longer ends (default: 1.5)')


def main(args: argparse.Namespace) -> int:
    """Track and write; 1 and one line where a file is not what it must be."""
    from ...evaluation.errors import ResultError
    try:
        track(args)
    except (OSError, ResultError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def track(args: argparse.Namespace) -> None:
    """Follow every scene of the split, write the tracks, print how many there are and how long it took."""
    from ...evaluation.detection.file import DETECTION, read_box_results
    from ...evaluation.detection.metric import results_file
    from ...evaluation.detection.samples import align
    from ...evaluation.detection.tables import read_drives
    from ...evaluation.tracking.file import write_tracking_results
    from ...tracking import Tracker, TrackerOptions

    is_folder = args.results.is_dir()
    path = results_file(args.results) if is_folder else args.results
    results = read_box_results(path, (DETECTION,))
    drives = read_drives(args.root, args.version, args.split)
    boxes = align(results, drives)
    boxes = boxes.select(boxes.score_M >= args.min_score)

    classes = results.format.classes
    tracker = Tracker(TrackerOptions(
        args.motion, min_hits=args.min_hits, birth_score=args.birth_score, max_age_s=args.max_age_s,
        classes=classes))
    began = time.process_time()
    records = follow_scenes(tracker, boxes, drives)
    took_ms = 1e3 * (time.process_time() - began) / len(records)

    out = write_tracking_results(args.out or path.with_name('tracks_nusc.json'), results.meta, records)
    ids = [box['tracking_id'] for sample in records.values() for box in sample]
    print(f'{len(set(ids))} tracks, {len(ids)} boxes, {len(records)} frames, {took_ms:.2f} CPU ms a frame')
    print(out)


def follow_scenes(tracker: Any, boxes: Any, drives: Any) -> dict[str, list[dict]]:
    """Records of every sample, in the order of the tables.

    Args:
        tracker: a `Tracker`; its numbers go on over the scenes.
        boxes: a `BoxTable` whose `sample_M` counts the samples of the drives.
        drives: scenes and times.
    """
    import numpy as np

    from ...evaluation.tracking.file import is_tracked_class

    boxes = boxes.select(is_tracked_class(boxes.label_M, tracker.options.classes))
    boxes = boxes.select(np.argsort(boxes.sample_M, kind='stable'))
    start = np.searchsorted(boxes.sample_M, np.arange(len(drives) + 1))

    records: dict[str, list[dict]] = {token: [] for token in drives.tokens}
    scene = None
    for sample in drives.order().tolist():
        if drives.scenes[sample] != scene:
            tracker.reset()
            scene = drives.scenes[sample]
        here = boxes.select(slice(start[sample], start[sample + 1]))
        token = drives.tokens[sample]
        records[token] = followed_records(tracker, here, 1000 * int(drives.time_us_S[sample]), token)
    return records


def followed_records(tracker: Any, boxes: Any, time_ns: int, token: str) -> list[dict]:
    """Records of one sample's boxes, those without a track left out."""
    from dataclasses import replace

    import numpy as np

    from ...evaluation.tracking.file import tracking_records

    # the tracker looks at places, headings and velocities; sizes keep nuScenes' order
    columns = [boxes.centre_M3, boxes.size_M3, boxes.yaw_M[:, None], boxes.velocity_M2]
    tracked = tracker.update(time_ns, np.concatenate(columns, 1), boxes.label_M, boxes.score_M)

    moved = replace(boxes, centre_M3=tracked.boxes_M9[:, :3], velocity_M2=tracked.boxes_M9[:, 7:])
    rows = np.flatnonzero(tracked.ids_M)
    return tracking_records(
        moved.select(rows), tracked.ids_M[rows].tolist(), token, tracker.options.classes)
