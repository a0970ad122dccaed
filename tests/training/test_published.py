"""Published weights: tables of names, axes turned by quarters, what has no place, what does not fit."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.bev.published.centerpoint import CenterPointPillars
from perception.bev.published.turned import turned_grid, turned_points
from perception.bev.records import SensorAxes
from perception.core.contracts import Batch, Frame
from perception.core.grid import BEVGrid
from perception.fusion.concat import OneSensor
from perception.fusion.trunk import NoTrunk
from perception.heads.detection.classes import SIX_GROUPS
from perception.heads.detection.head import CenterHead
from perception.model import MultiTaskPerception
from perception.training.published.importing import import_weights
from perception.training.published.turning import Axes, heading, height, kernels, offset, velocity
from tests.export_check import assert_exports
from tests.helpers import make_cloud, make_model

MOUNT = dict(origin_m=(1.0, 0.0, 2.0), quarter_turns=-1)  # as on nuScenes' car
REGRESSION = ('reg', 'height', 'dim', 'rot', 'vel')


def make_centerpoint(axes: dict | None = None) -> MultiTaskPerception:
    """The published form on +-12.8 m about the LiDAR, a quarter of its width."""
    torch.manual_seed(0)
    x, _, z = (axes or {}).get('origin_m', (0.0, 0.0, 0.0))
    ground = dict(x_range_m=(x - 12.8, x + 12.8), y_range_m=(-12.8, 12.8), z_range_m=(z - 5, z + 3))
    grid = BEVGrid(**ground, cell_m=1.6)
    encoder = CenterPointPillars(
        BEVGrid(**ground, cell_m=0.4), grid, (16,), (16, 24, 32), (1, 1, 1), 48, axes,
        max_points_per_pillar=5, export_sizes=dict(points=700, pillars=700))
    head = CenterHead(
        grid, 48, 16, SIX_GROUPS, dict(channels=64, separate=True, final_kernel=3),
        decoding=dict(peak_kernel=1, nms=None, score_threshold=0.0))
    return MultiTaskPerception(
        {'lidar': encoder}, OneSensor({'lidar': 48}), NoTrunk(48), {'detection': head})


def their_name(name: str) -> str | None:
    """A tensor of `make_centerpoint` as mmdet3d calls it."""
    for ours, theirs in (
        (r'encoders\.lidar\.point_net\.0\.0\.', 'pts_voxel_encoder.pfn_layers.0.linear.'),
        (r'encoders\.lidar\.point_net\.0\.1\.', 'pts_voxel_encoder.pfn_layers.0.norm.'),
        (r'encoders\.lidar\.stages\.', 'pts_backbone.blocks.'),
        (r'encoders\.lidar\.branches\.', 'pts_neck.deblocks.'),
        (r'heads\.detection\.shared\.0\.0\.', 'pts_bbox_head.shared_conv.conv.'),
        (r'heads\.detection\.shared\.0\.1\.', 'pts_bbox_head.shared_conv.bn.'),
    ):
        if re.match(ours, name):
            return re.sub(ours, theirs, name)

    match = re.fullmatch(r'heads\.detection\.branches\.(\d)\.(heatmap|regression\.(\d))\.(.*)', name)
    if match is None or match[3] == '5':
        return None
    part = 'heatmap' if match[3] is None else REGRESSION[int(match[3])]
    layer = match[4].replace('0.0.', '0.conv.').replace('0.1.', '0.bn.')
    return f'pts_bbox_head.task_heads.{match[1]}.{part}.{layer}'


@pytest.fixture(scope='module')
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights by mmdet3d's names, and two tensors that nobody knows."""
    generator = torch.Generator().manual_seed(5)
    weights = {'pts_bbox_head.iou.weight': torch.ones(2), 'img_neck.fpn.bias': torch.ones(3)}
    for name, tensor in make_centerpoint().state_dict().items():
        value = torch.rand(tensor.shape, generator=generator) + 0.5
        if tensor.ndim > 1:
            value = (value - 1) * 2 / tensor[0].numel() ** 0.5
        if (theirs := their_name(name)) and not name.endswith('tracked'):
            weights[theirs] = value
    path = tmp_path_factory.mktemp('published') / 'centerpoint.pth'
    torch.save({'state_dict': weights}, path)
    return path


def batch_of(points: torch.Tensor) -> Batch:
    frames = (Frame('sample', 0, np.eye(4)),)
    return Batch(frames, lidar_points=(points,), lidar_present_B=torch.ones(1, dtype=torch.bool))


# -------------------------------------------------------------------- axes

def test_axes_by_hand():
    """What the LiDAR sees ahead (its y) is ahead in ego (x), one metre before its origin, two above."""
    axes = SensorAxes(**MOUNT)
    points = torch.tensor([[11.0, 3.0, 2.5, 9.0]])  # 10 m ahead of the LiDAR, 3 m to its left
    assert turned_points(points, axes).tolist() == [[-3.0, 10.0, 0.5, 9.0]]
    grid = turned_grid(BEVGrid((-4.0, 6.0), (-2.0, 3.0), 0.5, (-3.0, 5.0)), axes)
    assert (grid.x_range_m, grid.y_range_m, grid.z_range_m) == ((-3.0, 2.0), (-5.0, 5.0), (-5.0, 3.0))


def test_what_a_cell_says_is_turned_by_hand():
    """A quarter turn to the right: the LiDAR's y is ego's x, its x is ego's -y."""
    axes = Axes(-1, ((0, 1), (-1, 0)), 2.0)
    assert axes.turn == tuple(map(tuple, SensorAxes(**MOUNT).turn()))
    torch.testing.assert_close(offset(torch.tensor([0.2, 0.9]), axes), torch.tensor([0.9, 0.8]))
    assert velocity(torch.tensor([3.0, 7.0]), axes).tolist() == [7.0, -3.0]
    assert heading(torch.tensor([1.0, 0.0]), axes).tolist() == [0.0, 1.0]  # along its y: straight ahead
    assert height(torch.tensor([-1.0]), axes).tolist() == [1.0]

    # row 0, column 2 of a kernel is one y less, one x more: one x less and one y less in ego
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[..., 0, 2] = 1
    assert kernels(kernel, axes)[0, 0].nonzero().tolist() == [[0, 0]]


@torch.no_grad()
def test_weights_in_turned_axes_see_the_same_boxes(published):
    """The same file in both models, the same cloud in either frame: the same boxes, in either frame."""
    here, there = make_centerpoint().eval(), make_centerpoint(MOUNT).eval()
    for model in (here, there):
        import_weights(model, published, 'centerpoint')
    in_lidar = make_cloud(400)
    in_ego = in_lidar.clone()
    in_ego[:, 0], in_ego[:, 1], in_ego[:, 2] = in_lidar[:, 1] + 1, -in_lidar[:, 0], in_lidar[:, 2] + 2

    a = here(batch_of(in_lidar), mode='predict')[0].detection
    b = there(batch_of(in_ego), mode='predict')[0].detection
    np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-6)
    assert len(a.boxes) == 500 and a.scores.std() > 1e-3

    # rank by rank where scores differ enough to have one order
    clear = np.flatnonzero(np.diff(a.scores, prepend=2, append=-1).__abs__().clip(max=1)[:-1] > 1e-5)
    clear = clear[np.isin(clear + 1, clear)]
    x, y, z, yaw = a.boxes[clear][:, [0, 1, 2, 6]].T
    expected = a.boxes[clear].copy()
    expected[:, :3] = np.stack([y + 1, -x, z + 2], 1)
    expected[:, 6] = yaw - np.pi / 2
    expected[:, 7:] = np.stack([a.boxes[clear][:, 8], -a.boxes[clear][:, 7]], 1)
    found = b.boxes[clear].copy()
    found[:, 6] -= 2 * np.pi * np.round((found[:, 6] - expected[:, 6]) / (2 * np.pi))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert len(clear) > 50


@torch.no_grad()
def test_a_pillar_with_room_counts_a_point_of_zeros():
    """Where zeros say more than the points, the maximum is theirs; a full pillar has no such floor."""
    encoder = make_centerpoint().encoders['lidar'].eval()
    points = make_cloud(3)
    points[:, :3] = torch.tensor([[0.1, 0.1, 0.0]])
    encoder.point_net[0][0].weight.fill_(-1e3)  # every point says less than nothing
    encoder.point_net[0][1].bias.fill_(0.25)
    for count, floor in ((3, 0.25), (5, 0.0)):
        cloud = points[:1].expand(count, -1).clone()
        inputs = encoder.prepare(batch_of(cloud))
        features = torch.nn.functional.pad(inputs['points'].abs(), (0, 0, 0, 1))
        placed = encoder.scatter(features, inputs['pillar_points'], inputs['slot_map'])
        assert placed.max() == pytest.approx(floor) and placed[0, 0, 0, 0] == 0


@torch.no_grad()
def test_the_turned_encoder_exports(tmp_path):
    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = make_centerpoint(MOUNT).encoders['lidar']

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.encoder(**dict(zip(names, tensors, strict=True))).bev_BCYX

    network = Encoder().eval()
    network.encoder.static = True
    inputs = network.encoder.prepare(batch_of(make_cloud(300)))
    names = list(inputs)
    assert_exports(network, list(inputs.values()), tmp_path)


# -------------------------------------------------------------------- names

def test_every_tensor_finds_its_place_or_is_named(published):
    model = make_centerpoint()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    imported = import_weights(model, published, 'centerpoint')
    assert sorted(imported.unplaced) == ['img_neck.fpn.bias', 'pts_bbox_head.iou.weight']
    assert imported.new and all('.regression.5.' in name for name in imported.new)
    assert '  img_neck.fpn.bias' in imported.lines()

    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(imported.taken)
    untouched = set(before) - changed - set(imported.new)
    assert all(name.endswith('num_batches_tracked') or 'absent' in name for name in untouched)


@pytest.mark.parametrize(('source', 'prefix'), [
    ('torchvision', ''), ('timm', ''), ('mmdet', 'backbone.'), ('bevfusion', 'encoders.camera.backbone.')])
def test_image_backbones_load_by_name(source, prefix, tmp_path):
    model = make_model()
    state = model.encoders['camera'].backbone.state_dict()
    weights = {prefix + name: torch.rand_like(value.float()) for name, value in state.items()}
    weights |= {'fc.weight': torch.ones(3), 'neck.lateral_convs.0.conv.bias': torch.ones(4)}
    torch.save(weights, tmp_path / 'backbone.pth')
    imported = import_weights(model, tmp_path / 'backbone.pth', source)
    assert imported.unplaced == ['fc.weight', 'neck.lateral_convs.0.conv.bias']
    for name, value in model.encoders['camera'].backbone.state_dict().items():
        assert torch.equal(value, weights[prefix + name].to(value.dtype)), name


def test_another_architecture_names_what_does_not_fit(published, tmp_path):
    weights = torch.load(published)['state_dict']
    del weights['pts_backbone.blocks.2.0.weight']
    weights['pts_neck.deblocks.0.0.weight'] = torch.zeros(8, 16, 2, 2)
    torch.save(weights, tmp_path / 'other.pth')
    model = make_centerpoint()
    before = model.encoders['lidar'].stages[0][0].weight.clone()
    with pytest.raises(ValueError, match='other.pth, as centerpoint: another architecture') as error:
        import_weights(model, tmp_path / 'other.pth', 'centerpoint')
    for line in (
        '2 tensors do not fit', 'encoders.lidar.stages.2.0.weight is absent from the file',
        'pts_neck.deblocks.0.0.weight (8, 16, 2, 2): encoders.lidar.branches.0.0.weight has (16, 16, 2, 2)',
    ):
        assert line in str(error.value)
    assert torch.equal(before, model.encoders['lidar'].stages[0][0].weight)


def test_a_deeper_network_is_not_taken_by_halves(tmp_path):
    """All tensors of ours are in the file, of our shapes: only that it has more layers tells them apart."""
    model = make_model()
    weights = model.encoders['camera'].backbone.state_dict()
    weights |= {'layer1.9.conv1.weight': torch.ones(2), 'layer1.9.bn1.num_batches_tracked': torch.ones(())}
    torch.save(weights, tmp_path / 'deep.pth')
    with pytest.raises(ValueError, match=r'1 tensors .*layer1.9.conv1.weight: the model has no encoders'):
        import_weights(model, tmp_path / 'deep.pth', 'torchvision')

    # a stage that was not built is left out, and said
    del weights['layer1.9.conv1.weight'], weights['layer1.9.bn1.num_batches_tracked']
    assert not hasattr(model.encoders['camera'].backbone, 'layer4')
    torch.save(weights | {'layer4.0.conv1.weight': torch.ones(2)}, tmp_path / 'more.pth')
    imported = import_weights(model, tmp_path / 'more.pth', 'torchvision')
    assert imported.unplaced == ['layer4.0.conv1.weight']


def test_groups_of_other_classes_are_refused(published):
    """As many classes in each group, so every shape fits."""
    model = make_centerpoint()
    head = model.heads['detection']
    head.groups = (head.groups[3], *head.groups[1:3], head.groups[0], *head.groups[4:])
    with pytest.raises(ValueError, match=r"heads.detection.groups: expected .*'car'.* found \[\['barrier'\]"):
        import_weights(model, published, 'centerpoint')


def test_swin_in_a_resnet_names_all_of_it(tmp_path):
    torch.save({'encoders.camera.backbone.patch_embed.proj.weight': torch.ones(2)}, tmp_path / 'swin.pth')
    with pytest.raises(ValueError, match=r'conv1.weight is absent .*without a place: .*patch_embed'):
        import_weights(make_model(), tmp_path / 'swin.pth', 'bevfusion')


@pytest.mark.parametrize(('source', 'message'), [
    ('openpcdet', "expected one of torchvision, .* found 'openpcdet'"),
    ('torchvision', "the model has nothing below 'encoders.camera.backbone.'")])
def test_sources_that_cannot_be(source, message, published):
    with pytest.raises(ValueError, match=message):
        import_weights(make_centerpoint(), published, source)


@pytest.mark.parametrize(('build', 'message'), [
    (lambda: SensorAxes((0.0, 1.0)), 'origin_m: expected x, y, z'),
    (lambda: SensorAxes(quarter_turns=4), 'quarter_turns: expected -3 to 3, found 4'),
    (lambda: OneSensor({'lidar': 4, 'camera': 4}), r"expected one sensor, found \['camera', 'lidar'\]")])
def test_options_that_mean_nothing(build, message):
    with pytest.raises(ValueError, match=message):
        build()
