"""The model with real encoders, fuser and trunk, and a trivial head."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from perception.bev.depth import lidar_depth_map
from perception.bev.lift import LiftTables
from perception.core.contracts import Annotations, TaskOutput
from perception.core.grid import BEVGrid
from perception.model import MultiTaskPerception, flatten_outputs, unflatten_outputs
from perception.registry import MODELS
from tests.helpers import VOXEL_GRID, SquareHead, make_batch, make_camera, make_lidar, make_model

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
    # an absent sensor's vector learns only where a sensor is absent, so one sample misses its LiDAR, the
    # other its cameras
    batch = replace(normalised(model), lidar_present_B=torch.tensor([True, False]),
                    camera_present_BN=torch.tensor([[False] * 6, [True] * 6]))
    for part in (model(normalised(model), ANNOTATIONS, mode='loss'), model(batch, ANNOTATIONS, mode='loss')):
        sum(part.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_norms_of_a_short_training_are_not_drawn_to_their_start():
    """Two batches: the running mean is the mean of theirs, not a few hundredths of it beside the zeros it
    began with."""
    model = make_model(norm_momentum=0.03).train()
    norm, means = (
        model.trunk.get_submodule(
            next(n for n, m in model.trunk.named_modules() if isinstance(m, nn.BatchNorm2d))
        ),
        [],
    )
    norm.register_forward_pre_hook(lambda module, given: means.append(given[0].detach().mean((0, 2, 3))))
    for _ in range(2):
        model(normalised(model), ANNOTATIONS, mode='loss')
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
    for _ in range(40):
        model(normalised(model), ANNOTATIONS, mode='loss')
    assert norm.momentum == 0.03


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


def test_predict_returns_every_sample_in_its_frame(model):
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
    assert set(flatten_outputs(unflatten_outputs(raw))) == set(raw)


@torch.no_grad()
def test_a_batch_is_its_samples_one_by_one(model):
    batch = normalised(model)
    together = model(batch)['map_segmentation.logits']
    for i in range(2):
        parts = {
            name: getattr(batch, name)[i : i + 1]
            for name in batch.__dataclass_fields__
            if getattr(batch, name) is not None
        }
        alone = model(type(batch)(**parts))['map_segmentation.logits']
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_an_absent_sensor_holds_is_never_read(model):
    batch = replace(normalised(model), lidar_present_B=torch.tensor([True, False]))
    inputs = model.prepare(batch)
    features = model.encode(inputs)
    clean = model.predict_raw(features, inputs)['map_segmentation']['logits']
    features['lidar'].bev_BCYX[1] = torch.nan
    assert torch.equal(model.predict_raw(features, inputs)['map_segmentation']['logits'], clean)
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
    assert not torch.allclose(
        model(first)['map_segmentation.logits'][0], model(normalised(model))['map_segmentation.logits'][0]
    )


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


def test_a_bfloat16_step_has_the_loss_and_the_gradients_of_a_float32_step():
    runs = []
    for enabled in (False, True):
        model = make_model().train()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            loss = sum(model(normalised(model), ANNOTATIONS, mode='loss').values())
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.heads.parameters()])
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        runs.append((loss.item(), gradient))
    assert runs[1][0] == pytest.approx(runs[0][0], rel=0.03)
    assert torch.nn.functional.cosine_similarity(runs[0][1], runs[1][1], dim=0) > 0.99


def test_wrong_names_and_modes_are_refused(model):
    with pytest.raises(ValueError, match=r"encoders\['lidar'\].*'camera'"):
        MultiTaskPerception(
            {'lidar': make_camera()}, model.fuser, model.trunk, {'map_segmentation': SquareHead(16)}
        )
    with pytest.raises(ValueError, match='heads: expected at least one'):
        MultiTaskPerception({'lidar': make_lidar()}, model.fuser, model.trunk, {})
    with pytest.raises(ValueError, match='found .train.'):
        model(normalised(model), mode='train')
    with pytest.raises(ValueError, match='needs annotations'):
        model(normalised(model), mode='loss')


def test_parts_are_built_from_a_configuration():
    ground = dict(x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8))
    grid = dict(type='BEVGrid', **ground, cell_m=1.6)
    parts = dict(
        camera=dict(
            type='CameraEncoder', backbone=dict(type='ResNet', depth=18, width=0.25, out_stages=(2, 3)),
            neck=dict(type='FPN', in_channels=(32, 64), out_channels=16), in_channels=16,
            grid={**grid, 'z_range_m': (-1, 3), 'height_cell_m': 1.0},
            depth_bins=dict(type='DepthBins', high_m=17, count=16)),
        lidar=dict(type='LidarEncoder', pillar_grid={**grid, 'cell_m': 0.8}, grid=grid),
        fuser=dict(type='ConcatFuser', in_channels=dict(camera=80, lidar=128), out_channels=32),
        trunk=dict(type='Trunk', in_channels=32, out_channels=24),
        preprocessor=dict(type='BatchPreprocessor'),
    )
    built = {name: MODELS.build(part) for name, part in parts.items()}
    model = MultiTaskPerception(
        {name: built[name] for name in ('camera', 'lidar')}, built['fuser'], built['trunk'],
        {'map_segmentation': SquareHead(24)}, data_preprocessor=built['preprocessor'])
    losses = model.train()(normalised(model), ANNOTATIONS, mode='loss')
    assert losses['loss/map_segmentation/square'].isfinite()
    with pytest.raises(TypeError, match='strid'):
        MODELS.build({**parts['trunk'], 'strid': (1, 2)})


def test_what_the_camera_is_sure_of_lies_where_the_lidar_sees_it():
    """LiDAR depth put into the camera's depth distribution and lifted lands where the points are."""
    batch = make_batch(1, image_hw=(128, 192), points=0)
    xy = [(8.0, 3.0), (-6.0, 5.0), (0.4, -9.0), (10.0, -7.2)]
    points = torch.tensor([[x, y, z, 0, 0, 0] for x, y in xy for z in (0.6, 1.0, 1.4, 1.8)])
    batch = replace(batch, lidar_points=(points,))
    encoder = make_camera(context_channels=1, lift={'interpolate': False}).eval()
    encoder.grid = BEVGrid(VOXEL_GRID.x_range_m, VOXEL_GRID.y_range_m, 0.2, (-1, 3), 0.25)
    encoder.collapse = torch.nn.Identity()
    inputs = encoder.prepare(batch)
    depth_m = lidar_depth_map(batch, (16, 24))
    bins = encoder.depth_bins.coordinate(depth_m)
    logits = torch.nn.functional.one_hot(bins.clamp(0, 15).long(), 16).permute(0, 1, 4, 2, 3) * 50.0
    context = depth_m.isfinite().float()[:, :, None]
    tables = LiftTables(*(inputs[k] for k in ('pixel_index', 'depth_index', 'far_weight')))
    lifted = encoder.lift(context, [logits], tables)[0].sum(1)[0]
    lit = torch.as_tensor(encoder.grid.centres_m())[lifted > 0.5]
    distance = torch.cdist(lit, torch.tensor(xy))
    # at most one bin along a ray (1 m / cos 35 degrees) and one pixel across (8 px = 0.6 m at 10 m)
    assert len(lit) >= 4 and (distance.min(1).values < 1.4).all() and (distance.min(0).values < 0.5).all()
