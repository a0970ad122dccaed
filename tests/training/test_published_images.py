"""Published weights of image backbones: Swin by four sources' names, BEVFusion's camera branch."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perception.bev.backbones.lss_fpn import GeneralizedLSSFPN
from perception.bev.backbones.swin import SwinTransformer
from perception.bev.camera import CameraEncoder
from perception.bev.records import DepthBins
from perception.fusion.concat import ConcatFuser
from perception.fusion.trunk import NoTrunk
from perception.model import MultiTaskPerception
from perception.training.published.images import by_neighbours
from perception.training.published.importing import import_weights
from tests.helpers import VOXEL_GRID, SquareHead, make_lidar

IMAGE = 'encoders.camera.backbone.'
AUTHORS = (
    (r'features\.0\.0\.', 'patch_embed.proj.'), (r'features\.0\.2\.', 'patch_embed.norm.'),
    (r'mlp\.0\.', 'mlp.fc1.'), (r'mlp\.3\.', 'mlp.fc2.'))
MMDET = (
    (r'features\.0\.0\.', 'patch_embed.projection.'), (r'features\.0\.2\.', 'patch_embed.norm.'),
    (r'mlp\.0\.', 'ffn.layers.0.0.'), (r'mlp\.3\.', 'ffn.layers.1.'), (r'attn\.', 'attn.w_msa.'))


def make_model(layers: tuple[int, ...] = (1, 2, 1, 1), **depth: object) -> MultiTaskPerception:
    """A narrow Swin with BEVFusion's neck and depth network, beside a LiDAR, whose depths it reads."""
    torch.manual_seed(0)
    backbone = SwinTransformer(4, layers, (1, 1, 2, 2), 3)
    camera = CameraEncoder(
        backbone, GeneralizedLSSFPN(backbone.out_channels, 8), VOXEL_GRID, DepthBins(1.0, 25.0, 6), 8, 4, 12,
        depth=dict(lidar_strides=(4, 2), layers=2) | depth)
    return MultiTaskPerception(
        {'camera': camera, 'lidar': make_lidar()}, ConcatFuser({'camera': 12, 'lidar': 12}, 12), NoTrunk(12),
        {'map_segmentation': SquareHead(12)})


def swin_names(name: str, row: str, block: tuple[tuple[str, str], ...], behind: int) -> str | None:
    """A tensor of our Swin as a source calls it, by hand: stages and mergings stand in one row here."""
    for ours, theirs in block:
        name = re.sub(ours, theirs, name)
    if name.startswith('norms.'):
        stage = int(name.split('.')[1])
        if row == 'stages':
            return f'norm{stage - 1}.{name.split(".")[2]}'
        return f'norm.{name.split(".")[2]}' if stage == 4 else None

    match = re.fullmatch(r'features\.(\d+)\.(.*)', name)
    if match is None:
        return name
    place, rest = int(match[1]), match[2]
    if place % 2:
        return f'{row}.{place // 2}.blocks.{rest}'
    return f'{row}.{place // 2 - behind}.downsample.{rest}'


SOURCES: dict[str, Callable[[str], str | None]] = {
    'torchvision': lambda name: re.sub(r'norms\.4\.', 'norm.', name) if 'norms.4' in name or (
        'norms' not in name) else None,
    'timm': lambda name: swin_names(name, 'layers', AUTHORS, 0),
    'swin': lambda name: swin_names(name, 'layers', AUTHORS, 1),
    'mmdet': lambda name: 'backbone.' + swin_names(name, 'stages', MMDET, 1),
    'bevfusion': lambda name: IMAGE + swin_names(name, 'stages', MMDET, 1)}


def published(source: str, model: MultiTaskPerception) -> dict[str, Tensor]:
    """Random numbers by a source's names."""
    torch.manual_seed(7)
    names = {name: SOURCES[source](name) for name in model.encoders['camera'].backbone.state_dict()}
    state = model.encoders['camera'].backbone.state_dict()
    return {theirs: torch.randn_like(state[name]) for name, theirs in names.items() if theirs}


@pytest.mark.parametrize('source', list(SOURCES))
def test_swin_loads_by_the_names_of_each_source(source: str, tmp_path: Path) -> None:
    model = make_model()
    weights = published(source, model)
    torch.save(weights | {'head.weight': torch.ones(2)}, tmp_path / 'swin.pth')
    imported = import_weights(model, tmp_path / 'swin.pth', source)
    assert imported.unplaced == ['head.weight'] and len(imported.taken) == len(weights)
    mmdet = source in ('mmdet', 'bevfusion')
    inner = {f'{IMAGE}norms.{stage}.{kind}' for stage in (2, 3) for kind in ('weight', 'bias')}
    assert set(imported.new) == (set() if mmdet else inner)

    for name, value in model.encoders['camera'].backbone.state_dict().items():
        theirs = SOURCES[source](name)
        if theirs is not None:
            merging = mmdet and re.fullmatch(r'features\.[246]\..*', name)
            expected = by_neighbours(weights[theirs], None) if merging else weights[theirs]
            assert torch.equal(value, expected), name


def test_a_mergings_columns_are_put_in_our_order() -> None:
    """mmdet: all four neighbours of channel 0 (row by row), then of channel 1; ours: column by column."""
    theirs = torch.tensor([[c * 100 + y * 10 + x for c in (0, 1) for y in (0, 1) for x in (0, 1)]])
    assert by_neighbours(theirs, None).tolist() == [[0, 100, 10, 110, 1, 101, 11, 111]]
    assert by_neighbours(theirs[0], None).tolist() == [0, 100, 10, 110, 1, 101, 11, 111]


@pytest.mark.parametrize(('layers', 'message'), [
    ((1, 1, 1, 1), r'backbone.layers\S* the model has no|stages.1.blocks.1.norm1.weight: the model has no'),
    ((1, 2, 2, 1), r'features.5.1.norm1.weight is absent')])
def test_another_depth_is_refused_by_name(layers, message, tmp_path: Path) -> None:
    torch.save(published('mmdet', make_model()), tmp_path / 'swin.pth')
    with pytest.raises(ValueError, match=message):
        import_weights(make_model(layers), tmp_path / 'swin.pth', 'mmdet')


def test_a_file_that_keeps_its_weights_below_model_is_read(tmp_path: Path) -> None:
    weights = {f'backbone.{name}': value for name, value in published('swin', make_model()).items()
               if name != 'norm.weight' and name != 'norm.bias'}
    weights |= {
        f'backbone.norm{i}.{kind}': torch.rand(4 * 2 ** i) for i in range(4) for kind in ('weight', 'bias')}
    torch.save({'model': weights}, tmp_path / 'nuimages.pth')
    model = make_model()
    imported = import_weights(model, tmp_path / 'nuimages.pth', 'swin')
    assert imported.unplaced == ['backbone.norm0.weight', 'backbone.norm0.bias'] and not imported.new
    norm = model.encoders['camera'].backbone.norms['3'].weight
    assert torch.equal(norm, weights['backbone.norm2.weight'])


# -------------------------------------------------------------------- BEVFusion's camera branch

class TheirBranch(nn.Module):
    """Neck and depth network by BEVFusion's names and in its form: biases before norms, one last layer."""

    def __init__(self, bins: int = 6, context: int = 4) -> None:
        super().__init__()
        torch.manual_seed(9)
        self.neck = nn.Module()
        for name, widths, side in (('lateral_convs', (16, 48), 1), ('fpn_convs', (8, 8), 3)):
            rows = [nn.ModuleDict(dict(
                conv=nn.Conv2d(width, 8, side, padding=side // 2, bias=False), bn=nn.BatchNorm2d(8)))
                for width in widths]
            setattr(self.neck, name, nn.ModuleList(rows))
        self.vtransform = nn.Module()
        self.vtransform.dtransform = nn.Sequential(
            nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 32, 5, 4, 2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 5, 2, 2), nn.BatchNorm2d(64), nn.ReLU())
        self.vtransform.depthnet = nn.Sequential(
            nn.Conv2d(72, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, bins + context, 1))
        self.vtransform.downsample = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean)
                nn.init.uniform_(part.running_var, 0.5, 2)
                nn.init.normal_(part.bias)

    def read(self, maps: tuple[Tensor, ...], depth: Tensor) -> Tensor:
        """Their forward, by hand: two levels of the neck, then depth features before the camera's."""
        levels = list(maps)
        for i in (1, 0):
            coarse = nn.functional.interpolate(levels[i + 1], levels[i].shape[-2:], mode='bilinear')
            x = torch.cat([levels[i], coarse], 1)
            for row in (self.neck.lateral_convs, self.neck.fpn_convs):
                x = row[i]['bn'](row[i]['conv'](x)).relu()
            levels[i] = x
        lift = self.vtransform
        return lift.depthnet(torch.cat([lift.dtransform(depth[:, None]), levels[0]], 1))


def branch_file(path: Path, model: MultiTaskPerception, branch: nn.Module, prefix: str = '') -> None:
    weights = published('bevfusion', model)
    weights |= {f'encoders.camera.{name}': value for name, value in branch.state_dict().items()}
    weights |= {'fuser.0.weight': torch.ones(2)}
    torch.save({'state_dict': {prefix + name: value for name, value in weights.items()}}, path)


@torch.no_grad()
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_bevfusions_camera_branch_gives_its_depths_and_contexts(prefix: str, tmp_path: Path) -> None:
    """Also of a training by several processes, which puts a word before every name."""
    model, branch = make_model().eval(), TheirBranch().eval()
    branch_file(tmp_path / 'fusion.pth', model, branch, prefix)
    imported = import_weights(model, tmp_path / 'fusion.pth', 'bevfusion')
    assert [name for name in imported.unplaced if not name.endswith('tracked')] == [
        'encoders.camera.vtransform.downsample.0.weight', 'fuser.0.weight']
    assert not imported.new and not imported.other

    camera, images = model.encoders['camera'], torch.randn(2, 3, 32, 48)
    depth = torch.rand(2, 32, 48) * 40
    context, logits = camera.context_and_places(images[None], None, depth[None])
    expected = branch.read(camera.backbone(images), depth)
    torch.testing.assert_close(logits[0], expected[:, :6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(context[0], expected[:, 6:], atol=1e-4, rtol=1e-4)
    assert logits.std() > 0.1


def test_a_part_of_another_form_is_left_whole_and_said(tmp_path: Path) -> None:
    """A depth network without LiDAR has no place for these weights; the backbone has."""
    model = make_model(lidar_strides=None, camera_aware=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    branch_file(tmp_path / 'fusion.pth', model, TheirBranch())
    imported = import_weights(model, tmp_path / 'fusion.pth', 'bevfusion')
    assert list(imported.other) == ['encoders.camera.depth_net.']
    assert any(line.startswith('encoders.camera.depth_net.* starts as it is: ') for line in imported.lines())
    assert 'encoders.camera.vtransform.depthnet.0.weight' in imported.unplaced
    for name, value in model.state_dict().items():
        if 'depth_net' in name:
            assert torch.equal(value, before[name])
    assert not torch.equal(
        before[IMAGE + 'features.0.0.weight'], model.state_dict()[IMAGE + 'features.0.0.weight'])
