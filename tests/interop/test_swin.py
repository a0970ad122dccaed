"""Weights of Swin-T in our backbone: mmdet's, the authors', torchvision's and timm's, the same maps."""
from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perception.registry import MODELS
from perception.training.published.importing import Imported, import_weights

pytestmark = pytest.mark.interop

IMAGE_HW = (224, 256)
"""Stages of 56 x 64 to 7 x 8 cells: padded, but for the height, which one window holds at the end."""


def ours(path: Path, weights: Mapping[str, Tensor], source: str) -> tuple[nn.Module, Imported]:
    """Our backbone with a published file's weights."""
    torch.save(dict(weights), path)
    backbone = dict(type='SwinTransformer', out_stages=(1, 2, 3, 4))
    ground = dict(type='BEVGrid', x_range_m=(-8, 8), y_range_m=(-8, 8), cell_m=4.0)
    model = MODELS.build(dict(
        type='MultiTaskPerception',
        encoders=dict(camera=dict(
            type='CameraEncoder', backbone=backbone, grid=dict(ground, heights_m=(0.0, 2.0)), in_channels=8,
            neck=dict(type='GeneralizedLSSFPN', in_channels=(96, 192, 384, 768), out_channels=8),
            depth_bins=dict(type='DepthBins'))),
        fuser=dict(type='OneSensor', in_channels=dict(camera=80)),
        trunk=dict(type='NoTrunk', out_channels=80),
        heads=dict(map_segmentation=dict(type='MapSegmentationHead', grid=ground, in_channels=80)))).eval()
    return model.encoders['camera'].backbone, import_weights(model, path, source)


def scattered(model: nn.Module) -> nn.Module:
    """Every weight random, norms and tables of offsets as well, so that none is where it may be confused."""
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or 'bias_table' in name:
            nn.init.normal_(parameter, mean=float('norm' in name and 'weight' in name), std=0.3)
    model.eval()  # apart: `train` of OpenMMLab's backbones returns None
    return model


def their_mmdet() -> nn.Module:
    """SwinTransformer as BEVFusion and mmdet's Swin-T have it."""
    pytest.importorskip('mmdet', reason='needs the extra [mm]: `make test-mm`')
    from mmdet.models.backbones.swin import SwinTransformer
    return scattered(SwinTransformer())


def authors_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Random numbers of the shapes of mmdet's weights, by the names and in the form of the authors'."""
    torch.manual_seed(5)
    names = (
        ('stages.', 'layers.'), ('attn.w_msa.', 'attn.'), ('ffn.layers.0.0', 'mlp.fc1'),
        ('ffn.layers.1', 'mlp.fc2'), ('projection', 'proj'))
    found = {}
    for name, value in weights.items():
        if 'relative_position_index' not in name:
            for theirs, authors in names:
                name = name.replace(theirs, authors)
            found[name] = torch.randn_like(value) * 0.05
    return found


def assert_same_maps(found: nn.Module, expected: list[Tensor], images: Tensor) -> None:
    maps = found(images)
    assert len(maps) == len(expected)
    for ours_map, their_map in zip(maps, expected, strict=True):
        assert their_map.std() > 0.01
        torch.testing.assert_close(ours_map, their_map, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(('source', 'prefix'), [
    ('mmdet', 'backbone.'), ('bevfusion', 'encoders.camera.backbone.')])
def test_mmdets_weights_give_their_maps(source: str, prefix: str, tmp_path: Path) -> None:
    theirs = their_mmdet()
    weights = {prefix + name: value for name, value in theirs.state_dict().items()}
    found, imported = ours(tmp_path / 'swin.pth', weights, source)
    assert all(name.endswith('relative_position_index') for name in imported.unplaced)

    # 256 x 288: no stage is as low as one window, where mmdet shifts and the others do not
    images = torch.randn(1, 3, 256, 288)
    assert_same_maps(found, theirs(images), images)


@torch.no_grad()
def test_the_authors_weights_are_what_mmdet_makes_of_them(tmp_path: Path) -> None:
    theirs = their_mmdet()
    from mmdet.models.backbones.swin import swin_converter
    weights = authors_names(theirs.state_dict())
    converted = {name.removeprefix('backbone.'): value for name, value in swin_converter(weights).items()}
    missing = theirs.load_state_dict(converted, strict=False)
    assert all('relative_position_index' in name for name in missing.missing_keys)
    assert not missing.unexpected_keys

    found, imported = ours(tmp_path / 'swin.pth', {'model': weights}, 'swin')
    assert not imported.unplaced and not imported.new
    images = torch.randn(1, 3, 256, 288)
    assert_same_maps(found, theirs(images), images)


@torch.no_grad()
def test_torchvisions_weights_give_their_map(tmp_path: Path) -> None:
    models = pytest.importorskip('torchvision.models', reason='needs torchvision')
    theirs = scattered(models.swin_t())
    found, imported = ours(tmp_path / 'swin.pth', theirs.state_dict(), 'torchvision')
    images = torch.randn(1, 3, *IMAGE_HW)
    expected = theirs.norm(theirs.features(images)).permute(0, 3, 1, 2)
    assert_same_maps(lambda x: found(x)[-1:], [expected], images)
    assert len(imported.new) == 6 and all('head.' in name or 'index' in name for name in imported.unplaced)


@torch.no_grad()
def test_timms_weights_give_their_map(tmp_path: Path) -> None:
    if importlib.util.find_spec('torchvision') is None:
        pytest.skip('needs timm and torchvision')
    timm = pytest.importorskip('timm', reason='needs timm')
    theirs = scattered(timm.create_model('swin_tiny_patch4_window7_224'))
    found, imported = ours(tmp_path / 'swin.pth', theirs.state_dict(), 'timm')

    # whole windows: timm shifts before it pads, torchvision, mmdet and ours after it
    images = torch.randn(1, 3, 224, 224)
    expected = theirs.forward_features(images).permute(0, 3, 1, 2)
    assert_same_maps(lambda x: found(x)[-1:], [expected], images)
    assert len(imported.new) == 6 and all('head.' in name for name in imported.unplaced)
