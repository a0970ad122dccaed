"""OpenMMLab's modules in our model, ours in theirs, both trained."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
pytest.importorskip('mmcv', reason=MISSING)
pytest.importorskip('mmdet3d', reason=MISSING)

from perception.core.config import SCOPE, read_config  # noqa: E402
from perception.core.contracts import Annotations, BoxLabels  # noqa: E402
from perception.fusion.concat import ConcatFuser  # noqa: E402
from perception.model import MultiTaskPerception  # noqa: E402
from perception.preprocessor import BatchPreprocessor  # noqa: E402
from perception.registry import MODELS  # noqa: E402
from tests.helpers import GROUND, SquareHead, make_batch, make_lidar  # noqa: E402

pytestmark = pytest.mark.interop

SECOND_TRUNK = dict(
    type='BackboneNeckTrunk',
    out_channels=32,
    backbone=dict(
        type='mmdet3d.SECOND', in_channels=16, out_channels=[16, 24], layer_nums=[1, 1], layer_strides=[1, 2]
    ),
    neck=dict(type='mmdet3d.SECONDFPN', in_channels=[16, 24], out_channels=[16, 16], upsample_strides=[1, 2]),
)
CAMERA = dict(
    type='CameraEncoder', in_channels=16, context_channels=8, out_channels=12,
    grid=dict(type='BEVGrid', **GROUND, cell_m=1.6, z_range_m=(-1.0, 3.0), height_cell_m=1.0),
    depth_bins=dict(type='DepthBins', low_m=1.0, high_m=17.0, count=16),
    backbone=dict(type='mmdet.ResNet', depth=18, base_channels=16, out_indices=(1, 2, 3)),
    neck=dict(type='mmdet.FPN', in_channels=[32, 64, 128], out_channels=16, num_outs=3))


def scoped() -> DefaultScope.overwrite_default_scope:
    return DefaultScope.overwrite_default_scope(SCOPE)


def train_steps(
    model: torch.nn.Module, losses: Callable[[], dict], steps: int, rate: float = 1e-2
) -> list[float]:
    """Total loss before each step of Adam."""
    optimizer, found = torch.optim.Adam(model.parameters(), lr=rate), []
    for _ in range(steps):
        total = sum(v for terms in losses().values() for v in (terms if isinstance(terms, list) else [terms]))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append(float(total.detach()))
    return found


# -------------------------------------------------------------------- theirs in our model

def test_their_trunk_and_image_backbone_learn_in_our_model() -> None:
    torch.manual_seed(0)
    with scoped():
        trunk, camera = MODELS.build(SECOND_TRUNK), MODELS.build(CAMERA)
    encoders = {'camera': camera, 'lidar': make_lidar()}
    fuser = ConcatFuser({name: encoder.out_channels for name, encoder in encoders.items()}, 16)
    heads = {'map_segmentation': SquareHead(32)}
    model = MultiTaskPerception(encoders, fuser, trunk, heads, data_preprocessor=BatchPreprocessor())
    data = model.data_preprocessor({'inputs': make_batch()}, training=True)
    labels = [Annotations(f.token) for f in data['inputs'].frames]
    losses = train_steps(model, lambda: model(data['inputs'], labels, mode='loss'), 8, rate=5e-2)
    assert losses[-1] < 0.8 * losses[0]
    # the two levels of the pyramid that we do not read (num_outs=3) are the only parameters without a
    # gradient
    idle = {name for name, p in model.named_parameters()
            if (p.grad is None or not p.grad.abs().sum() > 0) and not name.startswith('fuser.absent.')}
    assert idle == {
        f'encoders.camera.neck.fpn_convs.{i}.conv.{kind}' for i in (1, 2) for kind in ('weight', 'bias')
    }
    assert type(trunk.backbone).__module__.startswith('mmdet3d.') and type(
        camera.backbone
    ).__module__.startswith('mmdet.')


CONFIG = """
_base_ = [{base!r}]
model = dict(
    encoders=dict(camera=dict(
        backbone=dict(_delete_=True, type='mmdet.ResNet', depth=18, base_channels=16, out_indices=(1, 2, 3)),
        neck=dict(_delete_=True, type='mmdet.FPN', in_channels=[32, 64, 128], out_channels=32, num_outs=3))),
    trunk=dict(
        _delete_=True, type='BackboneNeckTrunk', out_channels=32,
        backbone=dict(
            type='mmdet3d.SECOND', in_channels=32, out_channels=[32, 48], layer_nums=[1, 1],
            layer_strides=[1, 2]),
        neck=dict(
            type='mmdet3d.SECONDFPN', in_channels=[32, 48], out_channels=[16, 16],
            upsample_strides=[1, 2])),
    heads=dict(map_segmentation=None, occupancy=None, lanes=None))
"""


def test_a_configuration_file_that_names_their_modules_trains(tmp_path: Path) -> None:
    base = Path(__file__).resolve().parents[2] / 'configs' / 'debug.py'
    (tmp_path / 'theirs.py').write_text(CONFIG.format(base=str(base)))
    config = read_config(tmp_path / 'theirs.py')
    torch.manual_seed(0)
    with scoped():
        model = MODELS.build(config.model)
    data = model.data_preprocessor(
        {'inputs': make_batch(samples=1, image_hw=config['_image_size_hw'])}, training=True
    )
    car = np.array([[6, 2, 0.8, 4.5, 1.9, 1.6, 0.3, 1, 0]], dtype=np.float32)
    one, none = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    labels = [Annotations('a', boxes=BoxLabels(car, none, none + 5, 9 * one, none, 4 * one))]
    losses = train_steps(model, lambda: model(data['inputs'], labels, mode='loss'), 3)
    assert losses[-1] < losses[0] and type(model.trunk.neck).__module__.startswith('mmdet3d.')


def test_their_weights_start_as_their_init_cfg_says() -> None:
    """mmengine passes init_weights on only through modules of its own kind: a pretrained backbone would be
    lost in silence."""
    constant = dict(type='Constant', layer='Conv2d', val=0.25)
    with scoped():
        camera = MODELS.build({**CAMERA, 'backbone': {**CAMERA['backbone'], 'init_cfg': constant}})
    assert bool((camera.backbone.conv1.weight == 0.25).all())


def test_a_pretrained_checkpoint_named_in_their_init_cfg_is_loaded(tmp_path) -> None:
    with scoped():
        source = MODELS.build(CAMERA['backbone'])
        torch.save(source.state_dict(), tmp_path / 'resnet.pth')
        pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'))
        loaded = MODELS.build({**CAMERA['backbone'], 'init_cfg': pretrained})
    for name, value in source.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


def test_their_nested_parts_are_built_in_their_scope() -> None:
    """mmdet3d's CenterHead names `SeparateHead` without a scope."""
    with scoped():
        head = MODELS.build(centre_head(16))
        assert DefaultScope.get_current_instance().scope_name == SCOPE
    assert [type(t).__name__ for t in head.task_heads] == ['SeparateHead']


def test_a_trunk_with_another_grid_or_width_is_refused() -> None:
    with scoped():
        half = MODELS.build({**SECOND_TRUNK, 'neck': None, 'level': 1, 'out_channels': 24})
        wide = MODELS.build({**SECOND_TRUNK, 'out_channels': 64})
        one = MODELS.build({**SECOND_TRUNK, 'neck': None, 'out_channels': 16})
    bev = torch.randn(2, 16, 8, 8)
    with pytest.raises(
        ValueError, match=r'expected a map \(channels, Y, X\) of \(24, 8, 8\) at level 1, found \(24, 4, 4\)'
    ):
        half(bev)
    with pytest.raises(ValueError, match=r'found \(32, 8, 8\): see out_channels'):
        wide(bev)
    assert one(bev).shape == bev.shape


# -------------------------------------------------------------------- ours in their model

def centre_head(in_channels: int) -> dict:
    """mmdet3d's CenterHead for one group of classes on 16 x 16 cells of 1.6 m."""
    reach = [-12.8, -12.8, -5.0, 12.8, 12.8, 3.0]
    return dict(
        type='mmdet3d.CenterHead',
        in_channels=in_channels,
        share_conv_channel=16,
        tasks=[dict(num_class=2, class_names=['car', 'pedestrian'])],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        bbox_coder=dict(
            type='CenterPointBBoxCoder', post_center_range=reach, max_num=20, score_threshold=0.1,
            out_size_factor=1, voxel_size=[1.6, 1.6], code_size=9, pc_range=reach),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        loss_cls=dict(type='mmdet.GaussianFocalLoss', reduction='mean'),
        loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25),
        norm_bbox=True,
        train_cfg=dict(
            grid_size=[16, 16, 1], voxel_size=[1.6, 1.6, 8], out_size_factor=1, dense_reg=1,
            gaussian_overlap=0.1, max_objs=20, min_radius=2, code_weights=[1.0] * 10,
            point_cloud_range=reach),
        test_cfg=dict(
            post_center_limit_range=reach, max_per_img=20, max_pool_nms=False, min_radius=[1, 1],
            score_threshold=0.1, out_size_factor=1, voxel_size=[1.6, 1.6], nms_type='rotate', pre_max_size=20,
            post_max_size=10, nms_thr=0.2, pc_range=reach),
    )


def detector(neck: dict) -> torch.nn.Module:
    """mmdet3d's CenterPoint detector with one of our modules as its neck, built by their registry in their
    scope."""
    from mmdet3d.registry import MODELS as THEIRS
    reach, cell = [-12.8, -12.8, -5.0, 12.8, 12.8, 3.0], [1.6, 1.6, 8.0]
    layer = dict(max_num_points=10, voxel_size=cell, max_voxels=(300, 300), point_cloud_range=reach)
    head = centre_head(24)
    config = dict(
        type='CenterPoint',
        train_cfg=dict(pts=head.pop('train_cfg')),
        test_cfg=dict(pts=head.pop('test_cfg')),
        data_preprocessor=dict(type='Det3DDataPreprocessor', voxel=True, voxel_layer=layer),
        pts_voxel_encoder=dict(
            type='PillarFeatureNet', in_channels=5, feat_channels=[16], with_distance=False, voxel_size=cell,
            norm_cfg=dict(type='BN1d'), point_cloud_range=reach, legacy=False),
        pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=16, output_shape=(16, 16)),
        pts_backbone=dict(
            type='SECOND', in_channels=16, out_channels=[16], layer_nums=[1], layer_strides=[1]
        ),
        pts_neck=neck,
        pts_bbox_head=head,
    )
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return THEIRS.build(ConfigDict(config))


def their_batch() -> dict:
    """Two clouds with one car each, as mmdet3d's loader gives them."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData
    generator = torch.Generator().manual_seed(0)
    samples, points = [], []
    for _ in range(2):
        sample = Det3DDataSample()
        sample.set_metainfo(dict(box_type_3d=LiDARInstance3DBoxes))
        box = torch.tensor([[4.0, -3.0, 0.0, 4.5, 1.9, 1.6, 0.3, 1.0, 0.0]])
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(box, box_dim=9), labels_3d=torch.tensor([0])
        )
        samples.append(sample)
        points.append((torch.rand(400, 5, generator=generator) * 2 - 1) * torch.tensor([12.0, 12, 2, 1, 0]))
    return {'inputs': {'points': points}, 'data_samples': samples}


@pytest.mark.parametrize(
    'neck',
    [
        dict(
            type='perception.Build',
            as_list=True,
            module=dict(
                type='Trunk', in_channels=16, out_channels=24, channels=(16,), layers=(1,), strides=(1,)
            ),
        ),
        dict(type='perception.FPN', in_channels=[16], out_channels=24),
    ],
    ids=['our trunk, adapted', 'our pyramid as it is'],
)
def test_our_modules_train_in_their_detector(neck: dict) -> None:
    torch.manual_seed(0)
    model = detector(neck)
    assert type(getattr(model.pts_neck, 'module', model.pts_neck)).__module__.startswith('perception.')
    data = model.data_preprocessor(their_batch(), training=True)
    losses = train_steps(model, lambda: model(**data, mode='loss'), 6)
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.pts_neck.parameters())


def test_our_module_with_built_parts_from_their_scope() -> None:
    """Grids are built ahead, and `CenterHead` is ours although mmdet3d has one of that name."""
    from mmdet3d.registry import MODELS as THEIRS
    grid = dict(type='BEVGrid', **GROUND, cell_m=1.6)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        head = THEIRS.build(
            dict(type='perception.Build', module=dict(type='CenterHead', grid=grid, in_channels=16))
        )
        assert DefaultScope.get_current_instance().scope_name == 'mmdet3d'
        theirs = THEIRS.get('CenterHead')
    assert type(head).__module__ == 'perception.heads.detection.head' and theirs.__module__.startswith(
        'mmdet3d.'
    )
    assert set(head(torch.randn(1, 16, 16, 16))) == {'heatmap', 'box', 'attribute'}
