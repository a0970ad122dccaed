"""Boxes by detection class in infos, which keep the annotations' own categories."""
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, DetectionClasses
from .infos import SceneFrames, scene_path
from .records import FrameRecord, Json


def class_counts(frame: FrameRecord, classes: DetectionClasses = NUSCENES_CLASSES) -> dict[str, int]:
    """How many boxes of each detection class a frame has, classes without any left out."""
    labels = [] if frame.boxes is None else [classes.label(name) for name in frame.boxes.categories]
    counts = Counter(classes.names[label] for label in labels if label >= 0)
    return {name: counts[name] for name in classes.names if counts[name]}


def counts_of_split(
    folder: Path, index: Json, tokens: Sequence[str], classes: DetectionClasses,
    lacking: Collection[str] = (),
) -> np.ndarray:
    """Boxes of every frame and class, int32 `(S, K)`.

    nuScenes' ten stand in the index; for other classes the infos of its scenes are read.

    Args:
        folder: of the infos.
        index: what `read_index` gave.
        tokens: S frames.
        classes: K of them.
        lacking: frames whose boxes are taken away; they have none.
    """
    if classes.is_nuscenes:
        counts_of = index['class_counts']
    else:
        wanted = set(tokens)
        counts_of = {
            frame.token: class_counts(frame, classes) for frame in _frames(folder, index, wanted)}

    counts = [{} if token in lacking else counts_of.get(token, {}) for token in tokens]
    return np.array([[count.get(name, 0) for name in classes.names] for count in counts], dtype=np.int32)


def check_categories(folder: Path, index: Json, classes: DetectionClasses) -> None:
    """Refuse classes with a category that is neither nuScenes' nor in the infos.

    Raises:
        ValueError: names the field, the category and the nearest known one.
    """
    missing, seen = set(classes.unusual_categories), set()
    if not missing:
        return

    # other splits count too: a rare category need not be in each
    everything = {token for scene in index['scenes'].values() for token in scene['tokens']}
    for frame in _frames(folder, index, everything):
        seen.update(() if frame.boxes is None else frame.boxes.categories)
        if missing <= seen:
            return
    classes.check_categories(seen, f'the infos in {folder}')


def _frames(folder: Path, index: Json, tokens: set[str]) -> Iterator[FrameRecord]:
    """The frames of some tokens, one scene in memory at a time."""
    for name, scene in index['scenes'].items():
        if not tokens.isdisjoint(scene['tokens']):
            frames = SceneFrames(scene_path(folder, name))
            yield from (frames.frame(token) for token in scene['tokens'] if token in tokens)
