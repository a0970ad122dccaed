"""The figure of the system with real encoders, fuser and trunk, and a trivial head."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from perception.contracts import Annotations, TaskOutput
from perception.model import MultiTaskPerception, flatten, unflatten
from tests.helpers import SquareHead, make_batch, make_camera, make_lidar, make_model

ANNOTATIONS = [Annotations('a'), Annotations('bbb')]


@pytest.fixture(scope='module')
def model() -> MultiTaskPerception:
    return make_model().eval()


def normalised(model: MultiTaskPerception, batch=None):
    return model.data_preprocessor({'inputs': batch or make_batch()})['inputs']


def test_loss_gives_named_finite_terms_and_every_parameter_a_gradient():
    model = make_model().train()
    losses = model(normalised(model), ANNOTATIONS, mode='loss')
    assert set(losses) == {'loss/camera/depth', 'loss/map_segmentation/square'}
    assert all(torch.isfinite(term) for term in losses.values())
    # an absent sensor's vector learns only where a sensor is absent, so one sample misses its LiDAR, the other its cameras
    batch = replace(normalised(model), lidar_present_B=torch.tensor([True, False]),
                    camera_present_BN=torch.tensor([[False] * 6, [True] * 6]))
    for part in (model(normalised(model), ANNOTATIONS, mode='loss'), model(batch, ANNOTATIONS, mode='loss')):
        sum(part.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_few_steps_lower_the_loss():
    model = make_model().train()
    batch, optimiser = normalised(model), torch.optim.Adam(model.parameters(), 3e-3)
    values = []
    for _ in range(12):
        loss = sum(model(batch, ANNOTATIONS, mode='loss').values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]


def test_predict_answers_every_sample_in_its_frame(model):
    with torch.no_grad():
        outputs = model(normalised(model), mode='predict')
    assert [output.frame.token for output in outputs] == ['sample-0', 'sample-1']
    assert all(isinstance(output, TaskOutput) and output.detection is None for output in outputs)
    assert outputs[0].map_segmentation.probabilities_6YX.shape == (6, 16, 16)


@torch.no_grad()
def test_tensor_takes_a_batch_or_its_prepared_inputs_alike(model):
    batch = normalised(model)
    raw = model(batch, mode='tensor')
    assert set(raw) == {'map_segmentation.logits'}
    again = model(model.prepare(batch), mode='tensor')
    assert torch.equal(raw['map_segmentation.logits'], again['map_segmentation.logits'])
    assert set(flatten(unflatten(raw))) == set(raw)


@torch.no_grad()
def test_a_batch_is_its_samples_one_by_one(model):
    batch = normalised(model)
    together = model(batch)['map_segmentation.logits']
    for i in range(2):
        parts = {name: getattr(batch, name)[i:i + 1] for name in batch.__dataclass_fields__ if getattr(batch, name) is not None}
        alone = model(type(batch)(**parts))['map_segmentation.logits']
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_an_absent_sensor_holds_is_never_read(model):
    batch = replace(normalised(model), lidar_present_B=torch.tensor([True, False]))
    inputs = model.prepare(batch)
    features = model.encode(inputs)
    clean = model.answer(features, inputs)['map_segmentation']['logits']
    features['lidar'].bev_BCYX[1] = torch.nan
    assert torch.equal(model.answer(features, inputs)['map_segmentation']['logits'], clean)
    nan_cloud = (batch.lidar_points[0], torch.full_like(batch.lidar_points[1], torch.nan))
    assert torch.equal(model(replace(batch, lidar_points=nan_cloud))['map_segmentation.logits'], clean)


@torch.no_grad()
def test_a_missing_camera_changes_nothing_but_what_it_sees(model):
    batch = make_batch()
    present = batch.camera_present_BN.clone()
    present[0, 2] = False
    other = batch.images_BN3HW.clone()
    other[0, 2] = 255 - other[0, 2]
    first = normalised(model, replace(batch, camera_present_BN=present))
    second = normalised(model, replace(batch, camera_present_BN=present, images_BN3HW=other))
    assert (first.images_BN3HW[0, 2] == 0).all()
    assert torch.equal(model(first)['map_segmentation.logits'], model(second)['map_segmentation.logits'])
    assert not torch.allclose(model(first)['map_segmentation.logits'][0], model(normalised(model))['map_segmentation.logits'][0])


@torch.no_grad()
@pytest.mark.parametrize('sensors', [('camera',), ('lidar',)])
def test_one_sensor_alone(sensors):
    model = make_model(sensors).eval()
    assert model(normalised(model))['map_segmentation.logits'].isfinite().all()


def test_bfloat16_stays_near_float32(model):
    batch = normalised(model)
    with torch.no_grad():
        exact = model(batch)['map_segmentation.logits']
        with torch.autocast('cpu', torch.bfloat16):
            near = model(batch)['map_segmentation.logits']
    assert (near.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_wrong_names_and_modes_are_refused(model):
    with pytest.raises(ValueError, match=r"encoders\['lidar'\].*'camera'"):
        MultiTaskPerception({'lidar': make_camera()}, model.fuser, model.trunk, {'map_segmentation': SquareHead(16)})
    with pytest.raises(ValueError, match='heads: expected at least one'):
        MultiTaskPerception({'lidar': make_lidar()}, model.fuser, model.trunk, {})
    with pytest.raises(ValueError, match='found .train.'):
        model(normalised(model), mode='train')
    with pytest.raises(ValueError, match='needs annotations'):
        model(normalised(model), mode='loss')
