"""Targets come from the loader's workers: the same ones, and none is made in the training process."""
from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.data import DataLoader

from perception.core.config import SCOPE, read_config
from perception.core.contracts import Annotations
from perception.heads.detection.head import CenterHead
from perception.model import MultiTaskPerception
from perception.registry import DATASETS, MODELS
from perception.training.targets import TargetCollate, heads_without_values, make_targets_in
from tests.training.conftest import DEBUG


@pytest.fixture(scope='module')
def debug(world_options: dict) -> tuple[MultiTaskPerception, DataLoader]:
    """The debug model and a loader of two samples with one worker, which makes targets."""
    from perception.datasets.reading.collate import collate
    config = read_config(DEBUG, world_options)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(SCOPE):
        model, dataset = MODELS.build(config.model.to_dict()), DATASETS.build(config.test_dataloader.dataset)
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=collate)
    make_targets_in(loader, model)
    return model, loader


def numbers(value: object) -> list[np.ndarray]:
    """All arrays of a record, in order."""
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in numbers(item)]
    return [] if value is None else [np.asarray(value)]


def test_a_worker_makes_what_the_heads_would_to_the_bit(debug) -> None:
    model, loader = debug
    data = next(iter(loader))
    assert list(data['targets']) == list(model.heads) and len(model.heads) == 4
    for task, head in model.heads.items():
        theirs, ours = numbers(data['targets'][task]), numbers(head.targets(data['data_samples']))
        assert len(theirs) == len(ours) >= 1 and sum(array.size for array in ours) > 100
        for a, b in zip(theirs, ours, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_losses_are_the_same_to_the_bit(debug, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loader = debug
    data = model.data_preprocessor(next(iter(loader)), True)

    def losses(**parts: object) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return model.eval()(**parts, mode='loss')

    here = losses(**{name: part for name, part in data.items() if name != 'targets'})
    monkeypatch.setattr(CenterHead, 'targets', None)  # nobody asks the head again
    brought = losses(**data)
    assert len(here) > 10 and all(torch.equal(brought[name], term) for name, term in here.items())


def test_a_training_makes_no_targets_in_its_own_process(
    make_runner: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, original = [], CenterHead.targets

    def noted(head: CenterHead, *arguments: object) -> object:
        made.append(os.getpid())
        return original(head, *arguments)

    monkeypatch.setattr(CenterHead, 'targets', noted)
    runner = make_runner({'train_dataloader.num_workers': 1, 'train_dataloader.persistent_workers': False})
    runner.train()
    assert runner.iter == 3 and not made

    runner.model.heads['detection'].targets([Annotations('a')])  # or nothing would be noted at all
    assert made == [os.getpid()]


def test_what_travels_to_a_worker_has_no_weights(debug) -> None:
    heads = debug[0].heads
    assert len(pickle.dumps(heads)) > 500_000 > 5 * len(pickle.dumps(heads_without_values(heads)))
    assert not any(p.is_meta for p in heads.parameters())


def test_other_models_get_no_targets() -> None:
    loader = DataLoader([1, 2], collate_fn=list)
    make_targets_in(loader, nn.Linear(1, 1))
    assert not isinstance(loader.collate_fn, TargetCollate)
