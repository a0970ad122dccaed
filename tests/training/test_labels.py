"""A split without labels stops a training; frames without any do not."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from perception.core.contracts import Annotations
from perception.training.labels import LabelsHook


def runner_on(**dataset: object) -> SimpleNamespace:
    return SimpleNamespace(train_dataloader=SimpleNamespace(dataset=SimpleNamespace(**dataset)))


def test_a_split_without_labels_is_refused_before_the_first_step() -> None:
    facts = dict(tasks=('lanes',), split='train', folder='infos')
    with pytest.raises(ValueError, match='expected labels for lanes, found none in any frame of split'):
        LabelsHook().before_train(runner_on(has_labels=lambda: False, **facts))
    for answer in (True, None):
        LabelsHook().before_train(runner_on(has_labels=lambda answer=answer: answer, **facts))
    LabelsHook().before_train(runner_on())


def test_an_epoch_without_labels_ends_a_training() -> None:
    hook, runner = LabelsHook(), runner_on()
    hook.before_train_epoch(runner)
    hook.before_train_iter(runner, 0, {'data_samples': [None, None]})
    with pytest.raises(ValueError, match='none in the 2 samples of an epoch'):
        hook.after_train_epoch(runner)

    hook.before_train_iter(runner, 1, {'data_samples': [None, Annotations('a')]})
    hook.after_train_epoch(runner)


def test_the_runner_has_the_hook(make_runner) -> None:
    assert any(isinstance(hook, LabelsHook) for hook in make_runner().hooks)
