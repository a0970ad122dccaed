"""Channels taken out of a network: which go together, that nothing else changes, how many may go."""
from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perception.bev.ops.widths import is_channelwise, layer_widths, set_widths
from perception.cli import run_verb
from perception.cli.training.profile_step import stride
from perception.core.checkpoint import load_weights, read_checkpoint
from perception.core.config import read_config
from perception.core.contracts import Annotations
from perception.model import MultiTaskPerception
from perception.registry import MODELS
from perception.training.pruning import search
from perception.training.pruning.channels import cut_channels, importance, mask_channels, working_groups
from perception.training.pruning.coupling import ChannelGroup, channel_groups, prunable_layers
from perception.training.pruning.prune import frame_flops
from perception.training.pruning.search import (
    Operations,
    PruneOptions,
    loss_shares,
    ratio_counts,
    search_channels,
)
from tests.helpers import make_batch, make_model

ROOT = Path(__file__).resolve().parents[2]


class Knots(nn.Module):
    """Every way in which channels meet: sums, concatenation, by channel, a softmax, a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.inner, self.back = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 6, 1)
        self.by_channel = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.other = nn.ConvTranspose2d(3, 4, 1)
        self.join = nn.Conv2d(10, 7, 1)
        self.mixed = nn.Conv2d(7, 3, 1)
        self.table = nn.Parameter(torch.zeros(3, 1, 1))
        self.last = nn.Conv2d(3, 8, 1)
        self.hidden, self.out = nn.Linear(8, 9), nn.Linear(9, 2)

    def prepare(self, x: Tensor) -> Tensor:
        return x

    def network(self, x: Tensor) -> dict[str, dict[str, Tensor]]:
        first = self.norm(self.stem(x)).relu_()
        first = first + self.back(self.inner(first).relu())
        joined = self.join(torch.cat([self.by_channel(first), self.other(x)], 1))
        mixed = self.mixed(joined.sigmoid()) + self.table
        last = self.last(mixed.softmax(1)).mean((2, 3))
        return {'a': {'x': self.out(self.hidden(last).relu())}}


def test_channels_that_meet_go_together() -> None:
    torch.manual_seed(3)
    groups = channel_groups(Knots(), torch.randn(2, 3, 5, 4))
    assert [(len(group), list(group.places)) for group in groups] == [
        (6, [('stem', 0), ('norm', 0), ('inner', 1), ('back', 0), ('by_channel', 0), ('join', 1)]),
        (5, [('inner', 0), ('back', 1)]),
        (4, [('other', 0), ('join', 1)]),
        (7, [('join', 0), ('mixed', 1)]),
        (8, [('last', 0), ('hidden', 1)]),
        (9, [('hidden', 0), ('out', 1)])]
    # the concatenation: the second group's channels lie behind the first's
    assert groups[0].places['join', 1].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert groups[2].places['join', 1].flatten().tolist() == [6, 7, 8, 9]


def test_cutting_is_masking() -> None:
    torch.manual_seed(3)
    model, x = Knots().eval(), torch.randn(2, 3, 5, 4)
    cuts = [(group, torch.tensor([1, 3])) for group in channel_groups(model, x)]
    layers = dict(model.named_modules())
    for cut in cuts:
        mask_channels(layers, *cut)
    expected = model.network(x)['a']['x']

    widths = cut_channels(model, cuts)
    torch.testing.assert_close(model.network(x)['a']['x'], expected)
    assert widths['stem'] == [4, 3] and widths['join'] == [5, 6] and widths['by_channel'] == [4]
    assert widths['norm'] == [4] and model.by_channel.groups == 4 and model.other.out_channels == 2

    # the record alone builds a model that takes the weights
    again = Knots().eval()
    set_widths(again, widths)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.network(x)['a']['x'], expected)


@pytest.mark.parametrize(('widths', 'message'), [
    ({'stm': [4, 3]}, r"widths\['stm'\]: .* found no layer of that name"),
    ({'': [4]}, r"widths\[''\]: expected a convolution, linear layer or batch norm, found Knots"),
    ({'stem': [4]}, r"widths\['stem'\]: expected 2 whole numbers from 1 to \[6, 3\], found \[4\]"),
    ({'stem': [7, 3]}, r'from 1 to \[6, 3\], found \[7, 3\]'), ({'norm': [0]}, r'found \[0\]'),
    ({'norm': '6'}, "found '6'")])
def test_a_record_of_another_model_is_refused(widths: dict, message: str) -> None:
    model = Knots()
    with pytest.raises(ValueError, match=message):
        set_widths(model, {'inner': [2, 6], **widths})
    assert model.inner.out_channels == 5  # nothing was cut


@pytest.fixture(scope='module')
def traced() -> tuple[MultiTaskPerception, dict, list[ChannelGroup]]:
    """The model with real encoders, a batch for its training, and the groups that can be cut."""
    model = make_model().eval()
    inputs = make_batch(1, cameras=1, image_hw=(32, 48), points=200)
    batch = model.data_preprocessor({'inputs': inputs, 'data_samples': [Annotations('abc')]})
    groups = channel_groups(model, batch['inputs'])
    return model, batch, working_groups(model, batch['inputs'], groups, batch)


def silence(layers: dict[str, nn.Module], group: ChannelGroup, channel: int) -> None:
    """Let a channel of a group be 0 whatever comes in."""
    for (name, side), channels in group.places.items():
        if side == 0:
            for parameter in layers[name].parameters(recurse=False):
                parameter.data[channels[channel]] = 0


def test_channels_of_zero_weights_change_nothing(traced: tuple) -> None:
    """And the smaller model is built from the record, with the same outputs."""
    model, batch, groups = traced
    covered = {name for group in groups for name, side in group.places if side == 0}
    assert 'trunk.output.0' in covered and 'encoders.camera.backbone.layer1.0.conv1' in covered
    assert 'encoders.lidar.point_net.0.0' in covered and 'heads.map_segmentation.conv' not in covered

    layers = prunable_layers(model)
    for group in groups:
        silence(layers, group, 2)
    expected = model(batch['inputs'], mode='tensor')
    assert all(int(importance(layers, group).argmin()) == 2 for group in groups)

    small = make_model().eval()
    small.load_state_dict(model.state_dict())
    widths = cut_channels(small, [(group, torch.tensor([2])) for group in groups])
    again = make_model(widths=widths).eval()
    again.load_state_dict(small.state_dict())
    found = again(batch['inputs'], mode='tensor')
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in model.parameters())


def test_calibration_meets_every_sample_before_one_comes_again() -> None:
    for size in (1, 6, 7, 49, 77, 372):
        assert {number * stride(size) % size for number in range(size)} == set(range(size))
    assert stride(372) == 7


def test_operations_are_those_of_a_frame() -> None:
    model = make_model().eval()
    one, three = (
        frame_flops(model, {'inputs': make_batch(size, cameras=1, image_hw=(32, 48), points=200)})
        for size in (1, 3))
    assert one > 1e6 and three == pytest.approx(one, rel=0.05)


def test_shares_spend_the_loss_that_is_allowed() -> None:
    for groups, options in ((1, PruneOptions()), (40, PruneOptions(max_loss=0.01)), (
            60, PruneOptions(max_loss=4.0, first_loss=0.05)), (3, PruneOptions(max_loss=5, first_loss=0.2))):
        shares = loss_shares(groups, options)
        assert prod(1 + share for share in shares) == pytest.approx(1 + options.max_loss, rel=1e-6)
        assert len(shares) == groups
    assert loss_shares(60, PruneOptions(first_loss=0.05))[0] == 0.05
    assert ratio_counts(64)[:3] == [8, 16, 24] and 64 - ratio_counts(64)[-1] == 8
    assert ratio_counts(20) == [4, 8, 12, 16] and ratio_counts(2) == [1] and ratio_counts(1) == []
    for wrong in (dict(flops=1.0), dict(max_loss=0), dict(first_loss=7)):
        with pytest.raises(ValueError, match=f'prune: {next(iter(wrong))}: expected'):
            PruneOptions(**wrong)


class TwoTasks(nn.Module):
    """A shared layer of which task a reads everything, and one of task b's own, mostly dead."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.a = nn.Linear(4, 8), nn.Linear(8, 1)
        self.wide, self.b = nn.Linear(4, 40), nn.Linear(40, 1)
        self.heads = {'a': self.a, 'b': self.b}
        with torch.no_grad():
            self.wide.weight[10:], self.wide.bias[10:] = 0, 0
            self.a.weight[:], self.b.weight[:] = 3, 3

    def prepare(self, x: Tensor) -> Tensor:
        return x

    def network(self, x: Tensor) -> dict[str, dict[str, Tensor]]:
        return {'a': {'y': self.a(self.shared(x).relu())}, 'b': {'y': self.b(self.wide(x).relu())}}

    def forward(self, inputs: Tensor, mode: str, labels: Tensor | None = None) -> dict[str, Tensor]:
        raw = self.network(inputs)
        return {f'loss/{task}/x': (raw[task]['y'] - labels[task]).square().mean() for task in raw}


def test_the_losses_decide() -> None:
    torch.manual_seed(0)
    model, x = TwoTasks().eval(), torch.randn(64, 4)
    labels = {task: outputs['y'].detach() + 0.1 for task, outputs in model.network(x).items()}
    batches = [{'inputs': x, 'labels': labels}]
    groups, layers = channel_groups(model, x), prunable_layers(model)
    total = 2.0 * 64 * (4 * 8 + 8 + 4 * 40 + 40)

    operations = Operations(model, layers, lambda: model.network(x), total)
    assert operations.share() == 1 and operations.touched(groups[1]) == 2.0 * 64 * (4 * 40 + 40)
    cuts, steps = search_channels(model, groups, operations, batches, PruneOptions(0.1, 0.02))
    # 24 of the 30 dead ones, after which a multiple of 8 is left; none of those that task a needs
    assert [(step.group, step.removed) for step in steps] == [('wide', 24), ('shared', 0)]
    assert steps[-1].flops == pytest.approx(1 - 24 * 2.0 * 64 * 5 / total)
    assert steps[-1].losses == {'a': pytest.approx(1), 'b': pytest.approx(1)}
    assert (cuts[0][1] >= 10).all()

    def interrupt(step: object) -> None:
        raise KeyboardInterrupt

    operations = Operations(model, layers, lambda: model.network(x), total)
    stopped, steps = search_channels(
        model, groups, operations, batches, PruneOptions(0.1, 0.02), interrupt)
    assert [(cut[0].name, len(cut[1])) for cut in stopped] == [('wide', 24)] and len(steps) == 1


def test_a_search_that_is_stopped_leaves_only_what_it_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come while the weights of a ratio that was tried are put back."""
    torch.manual_seed(0)
    model, x = TwoTasks().eval(), torch.randn(64, 4)
    labels = {task: outputs['y'].detach() + 0.1 for task, outputs in model.network(x).items()}
    groups, layers = channel_groups(model, x), prunable_layers(model)
    operations = Operations(model, layers, lambda: model.network(x), 2.0 * 64 * (4 * 8 + 8 + 4 * 40 + 40))
    before = copy.deepcopy(model.state_dict())

    @contextmanager
    def stopped(layers: dict, group: ChannelGroup, removed: Tensor) -> Iterator[None]:
        mask_channels(layers, group, removed)
        yield
        if group.name == 'shared':
            raise KeyboardInterrupt

    monkeypatch.setattr(search, 'masked', stopped)
    cuts, _ = search_channels(
        model, groups, operations, [{'inputs': x, 'labels': labels}], PruneOptions(0.1, 0.02))
    assert [group.name for group, _ in cuts] == ['wide']
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before if name != 'b.weight')
    assert (model.b.weight[0, cuts[0][1]] == 0).all() and (model.b.weight != 0).sum() == 16


def test_batches_without_labels_of_a_task_are_refused() -> None:
    torch.manual_seed(0)
    model, x = TwoTasks().eval(), torch.randn(64, 4)
    batches = [{'inputs': x, 'labels': {task: out['y'] + 0.1 for task, out in model.network(x).items()}}]
    groups, layers = channel_groups(model, x), prunable_layers(model)
    operations = Operations(model, layers, lambda: model.network(x), 1e5)
    model.heads = {**model.heads, 'c': None}
    with pytest.raises(ValueError, match=r"the 1 calibration batches have no labels of \['c'\]"):
        search_channels(model, groups, operations, batches, PruneOptions())


def test_the_command_writes_a_smaller_model(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """It loads strictly, again without one of its tasks, and the classes of the weights go along."""
    config = tmp_path / 'small.py'
    config.write_text(
        f"_base_ = [{str(ROOT / 'configs' / 'debug.py')!r}]\n"
        f"train_dataloader = dict(batch_size=1, dataset=dict(root={str(tiny_world)!r}))\n"
        "tasks = ('map_segmentation', 'detection')\n"
        "_coarse = dict(grid=dict(cell_m=3.2))\n"
        "model = dict(\n"
        "    encoders=dict(camera=None, lidar=dict(pillar_grid=dict(cell_m=1.6), **_coarse)),\n"
        "    fuser=dict(in_channels=dict(camera=None)),\n"
        "    heads=dict(detection=_coarse, map_segmentation=_coarse))\n")
    settings = read_config(config)
    model = MODELS.build(settings.model.to_dict())
    names = list(model.heads['detection'].classes.names)
    weights = tmp_path / 'weights.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': names}}}, weights)

    out = tmp_path / 'pruned'
    assert run_verb('prune-model', [
        str(config), str(weights), '--out', str(out), '--batches', '1', '--flops', '0.95',
        '--max-loss', '9']) == 0
    said = capsys.readouterr().out
    assert 'small_pruned.py: fine-tune it' in said and 'operations of a frame' in said

    pruned = read_config(out / 'small_pruned.py')
    small = MODELS.build(pruned.model.to_dict())
    checkpoint = load_weights(small, pruned.load_from)
    assert checkpoint['meta']['dataset_meta'] == {'classes': names}
    report = json.loads((out / 'pruning.json').read_text())
    assert report['flops'][1] <= 0.96 * report['flops'][0] and report['widths']
    for name, widths in report['widths'].items():
        assert list(layer_widths(small.get_submodule(name))) == widths

    one_task = read_config(out / 'small_pruned.py', {'tasks': ('map_segmentation',)})
    assert not any(name.startswith('heads.detection') for name in one_task.model.widths)
    MODELS.build(one_task.model.to_dict())
    assert read_checkpoint(out / 'small_pruned.pth')['meta']['pruned'] == 'small'
    assert any(is_channelwise(small.get_submodule(name)) for name in report['widths'])
