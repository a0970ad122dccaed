"""The tables of names: for each source, its tensors' names and ours, and what happens to their numbers."""
from __future__ import annotations

from . import turning
from .bevfusion import DEPTH, LIFT_ALONE, NECK, camera_rules, in_our_form
from .images import IMAGE, INNER_NORMS, LISTS, resnet, swin_authors, swin_mmdet, swin_timm, swin_torchvision
from .rules import Rule, Source
from .sparse_kernels import sparse_kernel

LIDAR = 'encoders.lidar.'
BOXES = 'heads.detection.'

# mmdet3d's CenterPoint on nuScenes
_GROUPS = (
    ('car',), ('truck', 'construction_vehicle'), ('bus', 'trailer'), ('barrier',), ('motorcycle', 'bicycle'),
    ('pedestrian', 'traffic_cone'))

# attributes are not among its weights
_ATTRIBUTES = (r'heads\.detection\.branches\.\d+\.regression\.5\..*',)

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


def _second() -> list[Rule]:
    """SECOND and its pyramid, in the weights' own axes."""
    return [
        Rule(r'pts_backbone\.blocks\.(.+)', LIDAR + r'stages.\1'),
        Rule(r'pts_neck\.deblocks\.(.+)', LIDAR + r'branches.\1')]


def _pillars() -> list[Rule]:
    """The point layer; the form of `CenterPointPillars`, in the weights' own axes."""
    layer = r'pts_voxel_encoder\.pfn_layers\.0\.'
    return [
        Rule(layer + r'linear\.weight', LIDAR + 'point_net.0.0.weight', turning.point_features),
        Rule(layer + r'norm\.(\w+)', LIDAR + r'point_net.0.1.\1')]


def _voxels() -> list[Rule]:
    """SparseEncoder of basic blocks, numbered from one there; the form of `VoxelNet`, in their own axes."""
    theirs, ours = r'pts_middle_encoder\.', LIDAR + 'middle.'
    layers = [(r'conv_input\.', 'entry.layer.'), (r'conv_out\.', 'output.layer.')]
    for i in range(4):
        stage, here = rf'encoder_layers\.encoder_layer{i + 1}\.', f'stages.{i}.'
        # two blocks, then the layer to the next resolution
        layers.append((stage + r'2\.', here + '2.layer.'))
        for block in range(2):
            layers += [
                (rf'{stage}{block}\.(?=conv1|bn1)', f'{here}{block}.first.'),
                (rf'{stage}{block}\.(?=conv2|bn2)', f'{here}{block}.second.')]

    rules = []
    for name, here in ((theirs + name, ours + here) for name, here in layers):
        rules += [
            Rule(name + r'(?:0|conv[12])\.weight', here + 'conv.weight', sparse_kernel),
            Rule(name + r'(?:1|bn[12])\.(\w+)', here + r'norm.\1')]
    return rules


_BEVFUSION = r'encoders\.camera\.backbone\.'

SOURCES = {
    'torchvision': Source([*resnet(), *swin_torchvision()], [IMAGE], INNER_NORMS, lists=LISTS),
    'timm': Source([*resnet(), *swin_timm()], [IMAGE], INNER_NORMS, lists=LISTS),
    'swin': Source(swin_authors(), [IMAGE], INNER_NORMS, lists=LISTS),
    'mmdet': Source([*resnet(r'backbone\.'), *swin_mmdet(r'backbone\.')], [IMAGE], lists=LISTS),
    'bevfusion': Source(
        [*resnet(_BEVFUSION), *swin_mmdet(_BEVFUSION), *camera_rules()], [IMAGE], LIFT_ALONE, lists=LISTS,
        optional=(NECK, DEPTH), prepared=in_our_form),
    'centerpoint': Source([*_pillars(), *_second(), *_head()], [LIDAR, BOXES], _ATTRIBUTES, _GROUPS),
    'centerpoint_voxels': Source([*_voxels(), *_second(), *_head()], [LIDAR, BOXES], _ATTRIBUTES, _GROUPS)}
"""{source: its table}"""
