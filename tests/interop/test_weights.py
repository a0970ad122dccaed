"""Weights of mmdet3d's CenterPoint, with pillars and with voxels, in our model: one cloud, the same boxes.

Sparse convolutions of mmcv have no CPU form. Where spconv is installed, mmdet3d takes its; elsewhere mmcv's
layers are run here by torch's dense convolution on whole maps, cut to the cells that are active.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
mmcv_ops = pytest.importorskip('mmcv.ops', reason=MISSING)
pytest.importorskip('mmdet3d', reason=MISSING)

from perception.core.contracts import Batch, Frame  # noqa: E402
from perception.heads.detection.classes import SIX_GROUPS  # noqa: E402
from perception.registry import MODELS  # noqa: E402
from perception.training.published.importing import import_weights  # noqa: E402
from tests.helpers import make_cloud  # noqa: E402

pytestmark = pytest.mark.interop

REACH = [-12.8, -12.8, -5.0, 12.8, 12.8, 3.0]
SIDES = {'pillars': [0.4, 0.4, 8.0], 'voxels': [0.4, 0.4, 0.2]}
STRIDE = {'pillars': 4, 'voxels': 8}
BOXES = {'pillars': 250, 'voxels': 60}  # there of each group, here in all
MOUNT = dict(origin_m=(1.0, 0.0, 2.0), quarter_turns=-1)
NORM = dict(type='BN', eps=1e-3, momentum=0.01)


def their_lidar(form: str) -> dict:
    """What lies before the head, as their configurations have it, narrower."""
    second = dict(type='SECOND', norm_cfg=NORM, conv_cfg=dict(type='Conv2d', bias=False))
    pyramid = dict(type='SECONDFPN', norm_cfg=NORM, upsample_cfg=dict(type='deconv', bias=False),
                   use_conv_for_no_stride=True)
    if form == 'pillars':
        return dict(
            pts_voxel_encoder=dict(
                type='PillarFeatureNet', in_channels=5, feat_channels=[16], voxel_size=SIDES[form],
                point_cloud_range=REACH, norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01), legacy=False),
            pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=16, output_shape=(64, 64)),
            pts_backbone=dict(
                second, in_channels=16, out_channels=[16, 24, 32], layer_nums=[1, 2, 1],
                layer_strides=[2, 2, 2]),
            pts_neck=dict(
                pyramid, in_channels=[16, 24, 32], out_channels=[16, 16, 16], upsample_strides=[0.5, 1, 2]))
    return dict(
        pts_voxel_encoder=dict(type='HardSimpleVFE', num_features=5),
        pts_middle_encoder=dict(
            type='SparseEncoder', in_channels=5, sparse_shape=[41, 64, 64], base_channels=4,
            output_channels=8, order=('conv', 'norm', 'act'), block_type='basicblock',
            encoder_channels=((4, 4, 8), (8, 8, 12), (12, 12, 16), (16, 16)),
            encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0))),
        pts_backbone=dict(
            second, in_channels=16, out_channels=[16, 24], layer_nums=[1, 2], layer_strides=[1, 2]),
        pts_neck=dict(pyramid, in_channels=[16, 24], out_channels=[24, 24], upsample_strides=[1, 2]))


def theirs(form: str) -> torch.nn.Module:
    """CenterPoint as its configurations have it, on less ground, narrower; random everywhere."""
    from mmdet3d.registry import MODELS as THEIRS
    from mmdet3d.utils import register_all_modules
    register_all_modules(init_default_scope=False)
    head = dict(
        type='CenterHead', in_channels=48, share_conv_channel=16, norm_bbox=True,
        tasks=[dict(num_class=len(group), class_names=list(group)) for group in SIX_GROUPS],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        bbox_coder=dict(
            type='CenterPointBBoxCoder', pc_range=REACH[:2], max_num=BOXES[form],
            score_threshold=0.0, code_size=9, post_center_range=[-1e6] * 3 + [1e6] * 3,
            out_size_factor=STRIDE[form], voxel_size=SIDES[form][:2]),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        loss_cls=dict(type='mmdet.GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25))
    model = THEIRS.build(dict(
        _scope_='mmdet3d', type='CenterPoint', data_preprocessor=dict(type='Det3DDataPreprocessor'),
        pts_bbox_head=head, **their_lidar(form))).eval()

    generator = torch.Generator().manual_seed(2)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            value = torch.rand(tensor.shape, generator=generator) + 0.5
            tensor.data = (value - 1) * 2 / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else value
            if name.endswith('conv_input.1.running_var'):
                tensor.data *= 1e4  # intensities of 255
    return model


def ours(form: str, axes: dict | None = None) -> torch.nn.Module:
    """The same by configuration, in ego metres."""
    x, _, z = (axes or {}).get('origin_m', (0.0, 0.0, 0.0))
    ground = dict(
        type='BEVGrid', x_range_m=(x - 12.8, x + 12.8), y_range_m=(-12.8, 12.8), z_range_m=(z - 5, z + 3))
    grid = dict(ground, cell_m=0.4 * STRIDE[form])
    pillars = dict(
        type='CenterPointPillars', pillar_grid=dict(ground, cell_m=0.4), grid=grid, point_channels=(16,),
        channels=(16, 24, 32), layers=(1, 2, 1), out_channels=48, axes=axes, max_points_per_pillar=5)
    voxels = dict(
        type='VoxelNet', voxel_grid=dict(ground, cell_m=0.4, height_cell_m=0.2), grid=grid,
        widths=(4, 8, 12, 16), compressed=8, channels=(16, 24), layers=(1, 2), out_channels=48, axes=axes,
        sizes=dict(points=5))
    return MODELS.build(dict(
        type='MultiTaskPerception',
        encoders=dict(lidar=pillars if form == 'pillars' else voxels),
        fuser=dict(type='OneSensor', in_channels=dict(lidar=48)),
        trunk=dict(type='NoTrunk', out_channels=48),
        heads=dict(detection=dict(
            type='CenterHead', grid=grid, in_channels=48, shared_channels=16, groups=SIX_GROUPS,
            branches=dict(channels=64, separate=True, final_kernel=3),
            decoding=dict(peak_kernel=1, nms=None, score_threshold=0.0, max_boxes=BOXES[form]))))).eval()


@pytest.fixture
def sparse_layers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sparse convolutions on a CPU: those of spconv where it is, else mmcv's by a dense one."""
    from mmdet3d.models.layers.spconv import IS_SPCONV2_AVAILABLE
    if IS_SPCONV2_AVAILABLE:
        from spconv.pytorch import ops
        if not torch.cuda.is_available():  # it asks for a stream, which a torch for CPUs has not
            monkeypatch.setattr(ops, 'get_current_stream', lambda: 0)
    else:
        monkeypatch.setattr(mmcv_ops.sparse_conv.SparseConvolution, 'forward', dense_forward)


def dense_forward(layer: torch.nn.Module, x: object) -> object:
    """A layer of mmcv's: torch's convolution on whole maps, cut to the cells that are active behind it."""
    tensor, conv3d = mmcv_ops.SparseConvTensor, torch.nn.functional.conv3d
    padding = [k // 2 for k in layer.kernel_size] if layer.subm else layer.padding
    whole = conv3d(x.dense(), layer.weight.permute(4, 3, 0, 1, 2), None, layer.stride, padding)
    indices = x.indices
    if not layer.subm:
        mask = tensor(torch.ones(len(x.indices), 1), x.indices, x.spatial_shape, x.batch_size).dense()
        touched = conv3d(mask, torch.ones(1, 1, *layer.kernel_size), None, layer.stride, padding)
        indices = (touched[:, 0] > 0.5).nonzero().int()
    sample, *place = indices.long().T
    rows = whole.movedim(1, -1)[(sample, *place)]
    return tensor(rows, indices, list(whole.shape[2:]), x.batch_size)


def their_boxes(
    model: torch.nn.Module, form: str, cloud: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes `(K, 9)` about their centres, scores and labels, best first, before any suppression."""
    points = cloud[:, [0, 1, 2, 3, 5]].contiguous()  # x, y, z, intensity, time lag
    voxels, coordinates, counts = mmcv_ops.Voxelization(SIDES[form], REACH, 5, 30_000)(points)
    coordinates = torch.nn.functional.pad(coordinates, (1, 0))
    pillars = model.pts_voxel_encoder(voxels, counts, coordinates)
    maps = model.pts_neck(model.pts_backbone(model.pts_middle_encoder(pillars, coordinates, 1)))

    boxes, scores, labels, first = [], [], [], 0
    for group, (raw,) in zip(SIX_GROUPS, model.pts_bbox_head(maps), strict=True):
        decoded = model.pts_bbox_head.bbox_coder.decode(
            raw['heatmap'].sigmoid(), raw['rot'][:, :1], raw['rot'][:, 1:], raw['height'],
            raw['dim'].exp(), raw['vel'], reg=raw['reg'])[0]
        boxes.append(decoded['bboxes'])
        scores.append(decoded['scores'])
        labels.append(decoded['labels'] + first)
        first += len(group)
    scores, order = torch.cat(scores).sort(descending=True, stable=True)
    names = [name for group in SIX_GROUPS for name in group]
    return (
        torch.cat(boxes)[order].numpy(), scores.numpy(),
        np.array([names[int(i)] for i in torch.cat(labels)[order]]))


@torch.no_grad()
@pytest.mark.parametrize('form, source', [('pillars', 'centerpoint'), ('voxels', 'centerpoint_voxels')])
@pytest.mark.parametrize('axes', [None, MOUNT], ids=['same axes', 'as on the car'])
def test_imported_centerpoint_finds_their_boxes(
    form: str, source: str, axes: dict | None, tmp_path: Path, sparse_layers_run: None
) -> None:
    from perception.core.protocols import DETECTION_CLASSES

    published, model = theirs(form), ours(form, axes)
    torch.save({'state_dict': published.state_dict()}, tmp_path / 'published.pth')
    imported = import_weights(model, tmp_path / 'published.pth', source)
    assert not [name for name in imported.unplaced if not name.endswith('num_batches_tracked')]

    cloud = make_cloud(600)
    in_ego = cloud.clone()
    if axes:
        in_ego[:, 0], in_ego[:, 1], in_ego[:, 2] = cloud[:, 1] + 1, -cloud[:, 0], cloud[:, 2] + 2
    frames = (Frame('sample', 0, np.eye(4)),)
    batch = Batch(frames, lidar_points=(in_ego,), lidar_present_B=torch.ones(1, dtype=torch.bool))
    found = model(batch, mode='predict')[0].detection
    boxes, scores, names = their_boxes(published, form, cloud)
    if axes:
        x, y, z, vx, vy = boxes[:, [0, 1, 2, 7, 8]].T.copy()
        boxes[:, :3] = np.stack([y + 1, -x, z + 2], 1)
        boxes[:, 6] -= np.pi / 2
        boxes[:, 7:] = np.stack([vy, -vx], 1)

    np.testing.assert_allclose(found.scores, scores[:BOXES[form]], rtol=1e-4, atol=1e-6)
    assert found.scores.std() > 1e-3

    # each of ours where theirs has one of its class and score; ties may change places
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=False):
        same = (np.abs(scores - score) < 1e-4) & (names == DETECTION_CLASSES[label])
        difference = np.abs(boxes[same] - box)
        difference[:, 6] = np.abs((difference[:, 6] + np.pi) % (2 * np.pi) - np.pi)
        assert same.any() and (difference / (1 + np.abs(box))).max(1).min() < 1e-3
