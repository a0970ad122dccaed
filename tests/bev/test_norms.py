"""Batch norm by sets of sensors: each set normalised, remembered and read as if it were alone."""
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from perception.bev.ops.norms import (
    PresentSensors,
    SensorNorm,
    known_unless_present,
    norms_by_sensors,
    still_statistics,
)
from perception.training.runner import PerceptionRunner
from tests.export_check import assert_exports
from tests.helpers import make_batch, make_model

CAMERA, LIDAR, BOTH = 1, 2, 3


def seen(
    camera: list[bool], lidar: list[bool], training: bool = True, sensors: PresentSensors | None = None
) -> PresentSensors:
    sensors = sensors or PresentSensors(2)
    sensors.see([torch.tensor(camera), torch.tensor(lidar)], training)
    return sensors


def make(sensors: PresentSensors, channels: int = 3) -> SensorNorm:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels, momentum=0.25)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return SensorNorm(norm, sensors)


def test_a_mixed_batch_is_its_sets_normalised_apart():
    sensors = seen([True, True, False, True], [True, False, True, True])
    norm, x = make(sensors), torch.randn(4, 3, 5, 6) + torch.arange(4.0)[:, None, None, None]
    out = norm(x)
    for rows in ([0, 3], [1], [2]):
        expected = nn.functional.batch_norm(x[rows], None, None, norm.weight, norm.bias, True)
        torch.testing.assert_close(out[rows], expected)
    torch.testing.assert_close(norm.running_mean[BOTH], x[[0, 3]].mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_mean[CAMERA], x[1].mean((1, 2)))
    assert norm.updates.tolist() == [0, 1, 1, 1] and (norm.running_mean[0] == 0).all()


def test_statistics_are_a_mean_first_and_fade_later():
    sensors = seen([True], [True])
    norm = make(sensors)
    for value in (1.0, 2.0, 3.0):
        norm(torch.full((1, 3, 2, 2), value))
    torch.testing.assert_close(norm.running_mean[BOTH], torch.full((3,), 2.0))
    for value in (4.0, 8.0):  # 2 -> 2.5 as a mean of four, -> 2.5 * 0.75 + 8 * 0.25
        norm(torch.full((1, 3, 2, 2), value))
    torch.testing.assert_close(norm.running_mean[BOTH], torch.full((3,), 2.5 * 0.75 + 8 * 0.25))


def test_evaluation_reads_the_samples_own_set_and_unknown_sets_read_all_sensors():
    sensors = seen([True, True], [True, False])
    norm = make(sensors)
    for _ in range(30):
        spread, centre = (torch.tensor(v)[:, None, None, None] for v in ([1.0, 3.0], [0.0, 5.0]))
        norm(torch.randn(2, 3, 8, 8) * spread + centre)
    norm.eval()
    x = torch.randn(3, 3, 4, 4)
    seen([True, True, False], [True, False, True], False, sensors)  # the LiDAR alone was never trained
    out = norm(x)
    for row, chosen in enumerate((BOTH, CAMERA, BOTH)):
        mean, variance = norm.running_mean[chosen], norm.running_var[chosen]
        expected = nn.functional.batch_norm(x[row:row + 1], mean, variance, norm.weight, norm.bias)
        torch.testing.assert_close(out[row:row + 1], expected, atol=1e-5, rtol=1e-5)
    seen([True], [False], False, sensors)
    torch.testing.assert_close(norm(x[1:2]), out[1:2], atol=1e-5, rtol=1e-5)


def test_maps_folded_into_the_batch_keep_their_sample():
    sensors = seen([True, False], [True, True])
    norm, x = make(sensors), torch.randn(4, 3, 5, 6)  # two maps of each sample
    out = norm(x)
    for rows in (slice(0, 2), slice(2, 4)):
        torch.testing.assert_close(
            out[rows], nn.functional.batch_norm(x[rows], None, None, norm.weight, norm.bias, True)
        )
    norm.eval()
    assert norm(x).shape == x.shape


def test_every_plain_norm_is_replaced_once_and_starts_as_it_was():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    plain[1].running_mean.fill_(0.5)
    names, x = set(dict(plain.named_parameters())), torch.randn(2, 3, 4, 4)
    expected, sensors = plain.eval()(x), seen([True, True], [True, False], False)
    norms_by_sensors([plain], sensors)
    assert [type(m) for m in (plain[1], plain[2][0])] == [SensorNorm] * 2 and set(
        dict(plain.named_parameters())
    ) == names
    torch.testing.assert_close(plain.eval()(x), expected, atol=1e-6, rtol=1e-5)


class Chooser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sensors = PresentSensors(2)
        norm = SensorNorm(nn.BatchNorm2d(3), self.sensors)
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), norm, nn.ReLU())

    def forward(self, x, camera, lidar):
        self.sensors.see([camera, lidar], self.training)
        return self.body(x)


@pytest.mark.parametrize('present', [(True, True), (True, False)])
def test_one_exported_graph_chooses_the_statistics_at_run_time(tmp_path, present):
    chooser = Chooser()
    for camera, lidar, offset in ((True, True, 0.0), (True, False, 3.0)) * 5:
        chooser(torch.randn(1, 2, 6, 6) + offset, torch.tensor([camera]), torch.tensor([lidar]))
    inputs = (torch.randn(1, 2, 6, 6), *(torch.tensor([p]) for p in present))
    used = assert_exports(chooser, inputs, tmp_path)
    assert 'Gather' in used and 'BatchNormalization' not in used


def test_a_model_keeps_the_sets_apart_and_an_absent_sensors_encoder_unmoved():
    model = make_model(norm_by_sensors=True, norm_momentum=0.03).train()
    assert {m.momentum for m in model.trunk.modules() if isinstance(m, nn.BatchNorm2d)} == {0.03}
    batch = model.data_preprocessor({'inputs': make_batch(1)})['inputs']
    blind = replace(batch, camera_present_BN=torch.zeros(1, 6, dtype=torch.bool))
    before = {
        name: value.clone() for name, value in model.encoders.camera.state_dict().items() if 'running' in name
    }
    model.network(model.prepare(blind))
    assert all(torch.equal(value, model.encoders.camera.state_dict()[name]) for name, value in before.items())
    norms = [m for m in model.modules() if isinstance(m, SensorNorm)]
    assert norms and all(norm.updates.tolist() == [0, 0, 1, 0] for norm in norms)
    model.network(model.prepare(batch))
    assert all(norm.updates.tolist() == [0, 0, 1, 1] for norm in norms)
    moved = model.encoders.camera.state_dict()
    assert any(not torch.equal(value, moved[name]) for name, value in before.items())


def test_a_batch_that_does_not_enter_is_not_counted():
    norm = nn.BatchNorm2d(2, momentum=0.25)
    with still_statistics(norm):
        norm(torch.randn(2, 2, 3, 3) + 5)
    assert norm.momentum == 0.25 and int(norm.num_batches_tracked) == 0 and (norm.running_mean == 0).all()


def test_norms_by_sensors_refuse_statistics_shared_by_processes():
    runner = SimpleNamespace(cfg={'sync_bn': 'torch'}, _load_from=None)
    with pytest.raises(ValueError, match='sync_bn .torch. and model.norm_by_sensors'):
        PerceptionRunner.build_model(runner, make_model(norm_by_sensors=True))


@pytest.mark.parametrize(('kind', 'elsewhere', 'learns'), [
    (nn.BatchNorm2d, 1, False), (nn.SyncBatchNorm, 1, True), (nn.SyncBatchNorm, 0, False)])
def test_norms_of_all_processes_learn_together_or_not_at_all(monkeypatch, kind, elsewhere, learns):
    """One that left the others alone would have them wait for its statistics for ever."""
    monkeypatch.setattr('perception.bev.ops.norms.summed', lambda values: values + elsewhere)
    layers = nn.Sequential(nn.Conv2d(1, 3, 1), kind(3)).train()
    with known_unless_present(layers, torch.zeros(2, dtype=torch.bool)):
        assert layers[1].training == learns
    assert layers[1].training
