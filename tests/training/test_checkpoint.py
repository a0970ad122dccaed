"""Checkpoints never execute code, and say what does not fit."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from perception.training.checkpoint import load_weights, read_checkpoint


class _Evil:
    def __reduce__(self):
        return os.system, ('true',)


def test_a_checkpoint_with_histories_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'good.pth'
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'state_dict': {'weight': torch.ones(2)}, 'message_hub': {'loss': history}, 'meta': {'n': np.float64(3.5)}}, path)
    found = read_checkpoint(path)
    assert found['message_hub']['loss'].mean() == 1.5
    assert found['meta']['n'] == 3.5


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': {}, 'payload': _Evil()}, path)
    with pytest.raises(ValueError, match='could not read it safely'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'', b'not a checkpoint at all'])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='broken.pth'):
        read_checkpoint(path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'cut.pth'
    torch.save({'state_dict': {'weight': torch.ones(10000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match='cut.pth'):
        read_checkpoint(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='none.pth'):
        read_checkpoint(tmp_path / 'none.pth')


def test_a_bare_state_dict_is_wrapped(tmp_path: Path) -> None:
    torch.save({'weight': torch.full((2, 3), 5.0), 'bias': torch.zeros(2)}, tmp_path / 'bare.pth')
    model = nn.Linear(3, 2)
    load_weights(model, tmp_path / 'bare.pth')
    assert (model.weight == 5).all()


def test_another_configuration_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    torch.save({'state_dict': {'weight': torch.full((4, 3), 5.0), 'extra': torch.zeros(1)}}, tmp_path / 'other.pth')
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r'another configuration.*weight: file \(4, 3\), model \(2, 3\).*bias.*extra'):
        load_weights(model, tmp_path / 'other.pth')
    assert torch.equal(model.weight, before)
