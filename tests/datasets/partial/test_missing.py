"""A share of the labels taken away at random: how many, which, and the same again."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception.core.contracts import LABELS_OF_TASK
from perception.core.protocols import TASKS
from perception.datasets.partial.missing import MissingLabels
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.reading.wrappers import RepeatDataset

TOKENS = [f'{i:032x}' for i in range(400)]


def test_exactly_a_share_of_each_task_by_the_seed_alone() -> None:
    lacking = MissingLabels(0.25, 3).frames(TOKENS, TASKS)
    assert {task: len(frames) for task, frames in lacking.items()} == dict.fromkeys(TASKS, 100)
    assert lacking == MissingLabels(0.25, 3).frames(TOKENS[::-1], TASKS)
    assert lacking != MissingLabels(0.25, 4).frames(TOKENS, TASKS)

    # independent of each other: about a sixteenth lacks two tasks' labels
    both = lacking['detection'] & lacking['lanes']
    assert 12 <= len(both) <= 40
    # a smaller share is a part of a larger one
    assert MissingLabels(0.1, 3).frames(TOKENS, TASKS)['lanes'] < lacking['lanes']


def test_shares_by_task() -> None:
    lacking = MissingLabels({'lanes': 0.5}).frames(TOKENS, TASKS)
    assert [len(lacking[task]) for task in TASKS] == [0, 0, 0, 200]


@pytest.mark.parametrize(('options', 'message'), [
    (dict(share=1.5), r'missing_labels.share: expected a share from 0 to 1, found 1.5'),
    (dict(share={'lanes': 'all'}), "missing_labels.lanes: expected a share .* 'all'"),
    (dict(share={'signs': 0.5}), "missing_labels.share: expected some of detection, .* found 'signs'"),
])
def test_bad_shares(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MissingLabels(**options).frames(TOKENS, TASKS)


def test_a_dataset_without_some_labels(tiny_world: Path) -> None:
    reading = dict(lidar_sweeps=0, radar_sweeps=0, missing_labels=dict(share=1 / 3, seed=2))
    dataset = NuScenesDataset(tiny_world, split='train', sensors=('lidar',), reading=reading)
    whole = NuScenesDataset(tiny_world, split='train', sensors=('lidar',), reading=dict(
        lidar_sweeps=0, radar_sweeps=0))
    assert whole.label_table().all() and dataset.label_table().sum(0).tolist() == [2, 2, 2, 2]

    for token, row in zip(dataset.tokens, dataset.label_table(), strict=True):
        labels = dataset.annotations_of(token)
        found = [labels is not None and getattr(labels, LABELS_OF_TASK[task]) is not None for task in TASKS]
        assert found == row.tolist()
    boxes = dataset.label_table()[:, TASKS.index('detection')]
    expected = np.where(boxes[:, None], whole.class_counts(), 0)
    assert np.array_equal(dataset.class_counts(), expected)
    assert not np.array_equal(expected, whole.class_counts())
    repeated = RepeatDataset(dataset, 2).label_table()
    assert np.array_equal(repeated, np.tile(dataset.label_table(), (2, 1)))

    with pytest.raises(ValueError, match='expected neither with test_mode'):
        NuScenesDataset(tiny_world, split='train', sensors=('lidar',), reading=reading, test_mode=True)
