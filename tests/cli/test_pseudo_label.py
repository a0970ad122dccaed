"""A teacher labels the frames that lack labels, goes on after a stop, and a training reads what it wrote."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.cli.training.teacher import TeacherOptions, label_frames
from perception.core.config import read_config
from perception.core.protocols import TASKS
from perception.datasets.reading.dataset import NuScenesDataset
from perception.registry import FUNCTIONS, MODELS

DEBUG = Path(__file__).resolve().parents[2] / 'configs' / 'debug.py'
MISSING = dict(share=1 / 3, seed=1)
LOW = TeacherOptions(confidence=dict(detection=0.01, map_segmentation=0.5, occupancy=0.01, lanes=0.001))
"""Of a teacher that knows nothing yet."""


@pytest.fixture(scope='module')
def config(tiny_world: Path):
    return read_config(DEBUG, {
        'train_dataloader.dataset.root': str(tiny_world),
        'train_dataloader.dataset.reading.missing_labels': MISSING})


@pytest.fixture(scope='module')
def teacher(config, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save({'state_dict': MODELS.build(config.model.to_dict()).state_dict(), 'meta': {}}, path)
    return path


@pytest.fixture(scope='module')
def labels(config, teacher, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('labels')
    assert label_frames(config, teacher, folder, LOW, print) == dict.fromkeys(TASKS, 1)
    return folder


def taught(config, folder: Path) -> NuScenesDataset:
    options = {key: value for key, value in config.train_dataloader.dataset.items() if key != 'type'}
    return NuScenesDataset(**{**options, 'reading': {**options['reading'], 'pseudo_labels': folder}})


def test_what_lacked_labels_has_a_teachers(config, labels) -> None:
    dataset = taught(config, labels)
    assert dataset.label_table().all()
    options = dict(config.train_dataloader.collate_fn)
    collate = FUNCTIONS.get(options.pop('type'))
    model = MODELS.build(config.model.to_dict()).train()
    data = model.data_preprocessor(collate([dataset[i] for i in range(3)], **options))
    weights = [sample.boxes.weights_M is not None for sample in data['data_samples']]
    losses = model(**data, mode='loss')
    assert sum(weights) == 1 and all(torch.isfinite(term) and term > 0 for term in losses.values())


def test_a_run_goes_on_where_it_was(config, teacher, labels) -> None:
    """A frame that is not whole is made again, the others are not touched; a whole folder is left alone."""
    header, = labels.glob('*.json')
    content = json.loads(header.read_text())
    header.write_text(json.dumps({**content, 'frames': None}))
    first, *others = sorted(labels.glob('frames/*.npz'))
    whole = dict(np.load(first))
    first.write_bytes(b'PK')
    before = {file: file.stat().st_mtime_ns for file in others}

    words: list[str] = []
    label_frames(config, teacher, labels, LOW, words.append)
    assert words[0].endswith(f'frames lack labels, {len(others)} are done') and words[-1] == '1 of 1 frames'
    assert {file: file.stat().st_mtime_ns for file in others} == before
    assert json.loads(header.read_text()) == content
    assert all(np.array_equal(array, whole[name]) for name, array in np.load(first).items())

    with pytest.raises(ValueError, match='tasks: found labels of .* take another folder'):
        label_frames(config, teacher, labels, TeacherOptions(tasks=('lanes',)), words.append)


def test_tasks_that_there_are_not(config, teacher, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected some of detection, .* this teacher has, found 'signs'"):
        label_frames(config, teacher, tmp_path, TeacherOptions(tasks=('signs',)), print)
    fewer = config.copy()
    fewer.merge_from_dict({'train_dataloader.dataset.tasks': ['detection']})
    with pytest.raises(ValueError, match="expected some of detection, which the data set loads, found 'map"):
        label_frames(fewer, teacher, tmp_path, TeacherOptions(), print)
    with pytest.raises(ValueError, match='confidence: lanes: expected above 0 and at most 1, found 0'):
        TeacherOptions(confidence={'lanes': 0})
    assert not list(tmp_path.glob('*.json'))
