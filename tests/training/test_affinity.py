"""Which tasks help which: worked by hand on two linear tasks, groups, and the command."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from perception.cli import run_verb
from perception.core.contracts import Frame
from perception.training.balancing.affinity import Affinity, measure_affinity, partitions, propose_groups

ROOT = Path(__file__).resolve().parents[2]


class Pulls(BaseModel):
    """Three tasks that pull one vector to points: two of them to near ones, one to the other side."""

    points = {'a': (4.0, 0.0), 'b': (4.0, 1.0), 'c': (-4.0, 0.0)}

    def __init__(self, tasks: str = 'abc') -> None:
        super().__init__()
        self.trunk = nn.Linear(1, 2, bias=False)
        self.trunk.weight.data.fill_(1.0)
        self.heads = nn.ModuleDict({task: nn.Identity() for task in tasks})
        self.register_buffer('seen', torch.zeros(()))

    def forward(self, inputs: torch.Tensor, mode: str = 'loss') -> dict[str, torch.Tensor]:
        self.seen += 1
        at = self.trunk.weight.flatten()
        aims = {task: torch.tensor(self.points[task]) for task in self.heads}
        return {f'loss/{task}/x': (at - aim).square().sum() for task, aim in aims.items()}


def test_cosines_and_gains_by_hand() -> None:
    model = Pulls()
    before = model.trunk.weight.detach().clone()
    affinity = measure_affinity(model, lambda: {'inputs': torch.zeros(1, 1)}, 2, move=0.1)
    # from (1, 1): a pulls along (3, -1), c along (-5, -1)
    assert float(affinity.cosines_TT[0, 2]) == pytest.approx((-15 + 1) / (10 * 26) ** 0.5, rel=1e-5)
    # a step of 0.1 * sqrt(2) along b's direction (1, 0): c's distance 26 becomes (5.1414)^2 + 1
    moved = 5 + 0.1 * 2 ** 0.5
    assert float(affinity.gains_TT[1, 2]) == pytest.approx(1 - (moved ** 2 + 1) / 26, rel=1e-4)
    assert float(affinity.gains_TT[0, 0]) > 0 and affinity.batches_TT.tolist() == [[2.0] * 3] * 3
    assert torch.equal(model.trunk.weight, before) and float(model.seen) == 0

    groups, gain = propose_groups(affinity.gains_TT)
    assert set(groups) == {(0, 1), (2,)} and gain > 0


def test_one_task_has_no_affinity() -> None:
    with pytest.raises(ValueError, match=r'expected at least 2 tasks, found 1 \(a\)'):
        measure_affinity(Pulls('a'), dict, 1)


def test_groups() -> None:
    assert [len(list(partitions(count))) for count in range(6)] == [1, 1, 2, 5, 15, 52]
    all_help = torch.ones(3, 3)
    assert propose_groups(all_help) == (((0, 1, 2),), pytest.approx(1.0))
    none_helps = -torch.ones(3, 3)
    assert propose_groups(none_helps) == (((0,), (1,), (2,)), 0)
    with pytest.raises(ValueError, match='up to 10 tasks, found 11'):
        propose_groups(torch.zeros(11, 11))


def test_the_command_prints_a_table_and_draws(tiny_world: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / 'affinity.json'
    assert run_verb('task-affinity', [
        str(ROOT / 'configs' / 'debug.py'), '--batches', '1', '--move', '1e-4', '--out', str(out),
        '--cfg-options', f'train_dataloader.dataset.root={tiny_world}', 'train_dataloader.batch_size=1']) == 0
    said = capsys.readouterr().out
    assert 'train together: ' in said and '| detection |' in said
    report = json.loads(out.read_text())
    start = report['checkpoints']['start']
    assert len(start['cosines']) == 4 and all(start['cosines'][i][i] == pytest.approx(1) for i in range(4))
    # a step along one's own gradient lowers one's own loss
    assert all(start['gains'][i][i] > 0 for i in range(4))
    assert sorted(task for group in report['groups'] for task in group) == sorted(report['tasks'])
    assert out.with_suffix('.png').stat().st_size > 10_000


def test_every_checkpoint_begins_without_memories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, debug = tmp_path / 'remembers.py', ROOT / 'configs' / 'debug.py'
    config.write_text(
        f"_base_ = [{str(debug)!r}]\n"
        "model = dict(memory=dict(type='MapMemory', grid={{_base_._grid}}, channels=32))\n")
    found: list[tuple[bool, int]] = []

    def measure(model: BaseModel, followed: bool, count: int, move: float) -> Affinity:
        streams = model.memory.streams[True]
        found.append((followed, len(streams)))
        streams.keep([Frame('f', 10**9, np.eye(4), 'drive')], torch.zeros(1, 1, 1, 1))
        return Affinity(('a', 'b'), *torch.ones(3, 2, 2))

    monkeypatch.setattr('perception.training.balancing.affinity.measure_affinity', measure)
    monkeypatch.setattr('perception.cli.training.profile_step.batches', lambda loader, followed: followed)
    monkeypatch.setattr('perception.core.checkpoint.match_weights', lambda *_: None)
    monkeypatch.setattr('perception.core.checkpoint.read_checkpoint', lambda _: {'state_dict': {}})
    names = [str(tmp_path / name) for name in ('first.pth', 'second.pth')]
    for name in names:
        Path(name).touch()
    assert run_verb('task-affinity', [str(config), *names]) == 0
    assert found == [(True, 0), (True, 0)]


def test_the_command_refuses_missing_checkpoints(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run_verb('task-affinity', [str(ROOT / 'configs' / 'debug.py'), 'none.pth'])
    assert 'checkpoint none.pth: no such file' in capsys.readouterr().err
