"""The tables of names: for each source, its tensors' names and ours, and what happens to their numbers."""
from __future__ import annotations

from . import turning
from .bevfusion import DEPTH, LIFT_ALONE, NECK, camera_rules, in_our_form
from .images import IMAGE, INNER_NORMS, LISTS, resnet, swin_authors, swin_mmdet, swin_timm, swin_torchvision
from .rules import Rule, Source

LIDAR = 'encoders.lidar.'
BOXES = 'heads.detection.'

# mmdet3d's CenterPoint on nuScenes
_GROUPS = (
    ('car',), ('truck', 'construction_vehicle'), ('bus', 'trailer'), ('barrier',), ('motorcycle', 'bicycle'),
    ('pedestrian', 'traffic_cone'))

# our parts of the box code in the order of CenterHead's regression, and mmdet3d's names of them
_CODE = (('reg', turning.offset), ('height', turning.height), ('dim', turning.kernels),
         ('rot', turning.heading), ('vel', turning.velocity))


def _head() -> list[Rule]:
    """CenterHead of mmdet3d: a shared layer, six groups, a hidden layer for each number."""
    group = r'pts_bbox_head\.task_heads\.(\d+)\.'
    rules = [
        Rule(r'pts_bbox_head\.shared_conv\.conv\.weight', BOXES + 'shared.0.0.weight', turning.kernels),
        Rule(r'pts_bbox_head\.shared_conv\.bn\.(\w+)', BOXES + r'shared.0.1.\1')]
    names = [('heatmap', 'heatmap', turning.kernels)]
    names += [(name, f'regression.{i}', change) for i, (name, change) in enumerate(_CODE)]

    for name, ours, change in names:
        branch = f'{BOXES}branches.\\1.{ours}.'
        rules += [
            Rule(rf'{group}{name}\.0\.conv\.weight', branch + '0.0.weight', turning.kernels),
            Rule(rf'{group}{name}\.0\.bn\.(\w+)', branch + r'0.1.\2'),
            Rule(rf'{group}{name}\.1\.(weight|bias)', branch + r'1.\2', change)]
    return rules


def _pillars() -> list[Rule]:
    """Point layer, SECOND and its pyramid; the form of `CenterPointPillars`, in the weights' own axes."""
    layer = r'pts_voxel_encoder\.pfn_layers\.0\.'
    return [
        Rule(layer + r'linear\.weight', LIDAR + 'point_net.0.0.weight', turning.point_features),
        Rule(layer + r'norm\.(\w+)', LIDAR + r'point_net.0.1.\1'),
        Rule(r'pts_backbone\.blocks\.(.+)', LIDAR + r'stages.\1'),
        Rule(r'pts_neck\.deblocks\.(.+)', LIDAR + r'branches.\1')]


_BEVFUSION = r'encoders\.camera\.backbone\.'

SOURCES = {
    'torchvision': Source([*resnet(), *swin_torchvision()], [IMAGE], INNER_NORMS, lists=LISTS),
    'timm': Source([*resnet(), *swin_timm()], [IMAGE], INNER_NORMS, lists=LISTS),
    'swin': Source(swin_authors(), [IMAGE], INNER_NORMS, lists=LISTS),
    'mmdet': Source([*resnet(r'backbone\.'), *swin_mmdet(r'backbone\.')], [IMAGE], lists=LISTS),
    'bevfusion': Source(
        [*resnet(_BEVFUSION), *swin_mmdet(_BEVFUSION), *camera_rules()], [IMAGE], LIFT_ALONE, lists=LISTS,
        optional=(NECK, DEPTH), prepared=in_our_form),
    'centerpoint': Source(
        [*_pillars(), *_head()], [LIDAR, BOXES], [r'heads\.detection\.branches\.\d+\.regression\.5\..*'],
        _GROUPS)}
"""{source: its table}"""
