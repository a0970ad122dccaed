"""Scalars and pictures of a work dir, the runs of a resumed training joined without double points."""
from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Points = dict[str, list[tuple[int, float]]]
"""{name: (step, value) in the order of steps}."""

_PICTURE = re.compile(r'(.+)_(\d+)\.png')
_PLACE = ('step', 'iter', 'epoch')


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn during the training: what of, after which step, and its file."""

    name: str
    step: int
    path: Path


@dataclass
class History:
    """What is known of a training.

    Attributes:
        train: logged at training steps.
        validation: scores, at the training step after which they were computed.
        pictures: in the order of steps.
        runs: how often it was started or resumed.
    """

    train: Points = field(default_factory=dict)
    validation: Points = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    runs: int = 0

    @property
    def step(self) -> int:
        """The last training step that was logged."""
        return max((points[-1][0] for points in self.train.values()), default=0)

    def forget_from(self, step: int) -> None:
        """Leave out what lies at a step or later: a resumed training does these steps again."""
        for points in (*self.train.values(), *self.validation.values()):
            points[:] = [point for point in points if point[0] < step]
        self.pictures[:] = [picture for picture in self.pictures if picture.step < step]
        for kind in (self.train, self.validation):
            for name in [name for name, points in kind.items() if not points]:
                del kind[name]


def read_history(work_dir: str | Path) -> History:
    """Read the logs of all runs in a work dir, the oldest first; one may be written meanwhile.

    Where a run begins at a step that an earlier one had reached, the earlier one's later points go.

    Raises:
        FileNotFoundError: the folder has no logs of a training.
    """
    history = History()
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'{work_dir}: expected the work dir of a training, found no <time>/vis_data/scalars.json in it')

    for file in files:
        _join(history, list(_rows(file)))
        _join_pictures(history, file.parent / 'vis_image')
    return history


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a log; a last line that is not complete yet is left out."""
    for line in file.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and type(row.get('step')) is int:
            yield row


def _join(history: History, rows: list[Mapping[str, Any]]) -> None:
    """Add a run's rows; those of a training step say at which iteration they are, scores do not."""
    steps = [row['step'] for row in rows if 'iter' in row]
    if not steps:
        return
    history.runs += 1
    history.forget_from(steps[0])

    step = 0
    for row in rows:
        step = row['step'] if 'iter' in row else step
        points = history.train if 'iter' in row else history.validation
        for name, value in row.items():
            if name not in _PLACE and type(value) in (int, float) and math.isfinite(value):
                points.setdefault(name, []).append((step, float(value)))


def _join_pictures(history: History, folder: Path) -> None:
    found = []
    for path in folder.glob('*.png'):
        if match := _PICTURE.fullmatch(path.name):
            found.append(Picture(match[1], int(match[2]), path))
    history.pictures += sorted(found, key=lambda picture: (picture.step, picture.name))
