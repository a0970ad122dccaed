"""ResNet and FPN: names, shapes, freezing, loading."""
from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from perception.bev.backbones.fpn import FPN
from perception.bev.backbones.resnet import ResNet, TimmBackbone
from perception.bev.ops.blocks import Projection

# torchvision's less its classifier
PARAMETERS = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160}


@pytest.mark.parametrize('depth', list(PARAMETERS))
def test_size_is_the_published_one(depth):
    with torch.device('meta'):
        model = ResNet(depth)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[depth]


def test_names_are_torchvisions():
    names = set(ResNet(50, width=0.25).state_dict())
    assert {'conv1.weight', 'bn1.running_mean', 'layer1.0.conv3.weight', 'layer1.0.downsample.0.weight',
            'layer1.0.downsample.1.bias', 'layer4.2.bn3.num_batches_tracked'} <= names
    assert not any(name.startswith('fc') for name in names)
    assert 'layer1.0.downsample.0.weight' not in ResNet(18, width=0.25).state_dict()


@pytest.mark.parametrize('stride', [2, 3])
def test_projections_of_few_channels_learn_on_several_threads(stride):
    """In half precision no strided 1x1 convolution goes backward, and values are those of the plain one."""
    torch.manual_seed(0)
    projection, plain = Projection(8, 12, stride), torch.nn.Conv2d(8, 12, 1, stride, bias=False)
    plain.load_state_dict(projection.state_dict())
    x = torch.randn(1, 8, 33, 32).to(memory_format=torch.channels_last)
    upstream = torch.randn_like(plain(x))

    found, strides = [], []
    torch.set_num_threads(2)
    for module, dtype in ((projection, torch.bfloat16), (plain, torch.float32)):
        leaf = x.clone().requires_grad_()
        with torch.autocast('cpu', dtype, enabled=dtype is torch.bfloat16):
            out = module(leaf)
        strides.append(tuple(out.grad_fn._saved_stride))
        out.float().mul(upstream).sum().backward()
        found.append((out.float(), leaf.grad, module.weight.grad))
    assert strides == [(1, 1), (stride, stride)]
    for half, full in zip(*found, strict=True):
        torch.testing.assert_close(half, full, rtol=0.02, atol=0.02 * float(full.abs().max()))

    with torch.no_grad():  # what is exported is the plain convolution
        torch.testing.assert_close(projection(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize(('depth', 'stages'), [(18, (2, 3, 4)), (50, (1, 3))])
def test_maps_have_the_promised_strides_and_channels(depth, stages):
    model = ResNet(depth, width=0.25, out_stages=stages).eval()
    maps = model(torch.zeros(2, 3, 64, 96))
    assert [m.shape[1] for m in maps] == list(model.out_channels)
    assert [(64 // m.shape[2], 96 // m.shape[3]) for m in maps] == [(s, s) for s in model.out_strides]
    assert hasattr(model, 'layer4') == (4 in stages)


def test_frozen_parts_stay_frozen_in_training():
    model = ResNet(18, width=0.25, frozen_stages=1).train()
    assert not model.bn1.training and not model.layer1[0].bn1.training and model.layer2[0].bn1.training
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith(('conv1', 'bn1', 'layer1')) for name in trained)
    assert 'layer2.0.conv1.weight' in trained
    still = ResNet(18, width=0.25, frozen_bn=True).train()
    before = still.layer3[0].bn1.running_mean.clone()
    still(torch.randn(2, 3, 64, 64))
    assert torch.equal(still.layer3[0].bn1.running_mean, before)
    assert still.conv1.weight.requires_grad and not still.bn1.weight.requires_grad


def test_checkpointing_changes_no_value_no_gradient_and_no_statistic():
    images, outputs = torch.randn(2, 3, 64, 64), []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        model = ResNet(18, width=0.25, checkpoint=checkpoint).train()
        out = model(images)
        sum(m.square().sum() for m in out).backward()
        outputs.append(
            (out[-1].detach(), model.layer2[0].conv1.weight.grad, model.layer4[0].bn1.running_mean)
        )
    for plain, saved in zip(*outputs, strict=True):
        torch.testing.assert_close(plain, saved)


def test_published_weights_load_and_strangers_are_refused(tmp_path):
    source = ResNet(18, width=0.25)
    path = tmp_path / 'weights.pth'
    torch.save({**source.state_dict(), 'fc.weight': torch.zeros(10, 128), 'fc.bias': torch.zeros(10)}, path)
    loaded = ResNet(18, width=0.25, out_stages=(2, 3), pretrained=str(path))
    assert torch.equal(loaded.layer3[1].conv2.weight, source.layer3[1].conv2.weight)
    with pytest.raises(ValueError, match=r'does not fit ResNet.*of another shape.*conv1.weight'):
        ResNet(18, width=0.5, pretrained=str(path))
    with pytest.raises(ValueError, match=r'missing.*layer1.2.conv1.weight'):
        ResNet(34, width=0.25, pretrained=str(path))
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        ResNet(18, pretrained='nowhere.pth')

    # a file that has all of ours and more blocks is of a deeper network, not half of it
    torch.save({**source.state_dict(), 'layer3.2.conv1.weight': torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r'1 of a deeper network.*layer3.2.conv1.weight'):
        ResNet(18, width=0.25, pretrained=str(path))
    assert not hasattr(ResNet(18, width=0.25, out_stages=(2,), pretrained=str(path)), 'layer3')


def test_weights_that_execute_code_are_refused(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': ResNet(18, width=0.25)}, path)           # a pickled object, not tensors
    with pytest.raises(Exception, match='[Ww]eights'):
        ResNet(18, width=0.25, pretrained=str(path))


@pytest.mark.parametrize(
    'wrong', [dict(depth=20), dict(depth=18, out_stages=(5,)), dict(depth=18, out_stages=())]
)
def test_backbone_refuses_nonsense(wrong):
    with pytest.raises(ValueError, match='ResNet'):
        ResNet(**wrong)


@pytest.mark.parametrize('levels', [(0,), (0, 2), (1,)])
def test_pyramid_keeps_sizes_and_trains_all_it_builds(levels):
    maps = [torch.randn(2, c, 16 // s, 24 // s) for c, s in ((8, 1), (16, 2), (32, 4))]
    fpn = FPN((8, 16, 32), 12, levels)
    out = fpn(maps)
    assert [m.shape for m in out] == [(2, 12, *maps[level].shape[-2:]) for level in levels]
    sum((m * torch.randn_like(m)).sum() for m in out).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in fpn.parameters())


def test_pyramid_hands_odd_sizes_down():
    assert FPN((4, 4), 4)([torch.randn(1, 4, 7, 11), torch.randn(1, 4, 4, 6)])[0].shape == (1, 4, 7, 11)
    with pytest.raises(ValueError, match='out_levels'):
        FPN((4, 4), 4, (2,))
    with pytest.raises(ValueError, match='one length'):
        FPN((4, 4), 4)([torch.randn(1, 4, 7, 11)])


def test_timm_is_optional():
    if importlib.util.find_spec('timm') is not None:
        pytest.skip('timm is installed here: its absence cannot be shown')
    with pytest.raises(ImportError, match='needs timm'):
        TimmBackbone('timm:resnet18')


def test_timm_backbones_are_wrapped_where_timm_is_there(monkeypatch):
    """A stand-in for timm's `create_model` shows what is asked of it and what comes back."""
    asked = {}

    class Body(torch.nn.Module):
        feature_info = SimpleNamespace(channels=lambda: [4, 8], reduction=lambda: [8, 16])

        def forward(self, images):
            return [images.new_zeros(len(images), 4, 8, 8), images.new_zeros(len(images), 8, 4, 4)]

    def create_model(name, **options):
        asked.update(options, name=name)
        return Body()

    monkeypatch.setitem(sys.modules, 'timm', SimpleNamespace(create_model=create_model))
    model = TimmBackbone('timm:convnext_tiny', (1, 2))
    assert asked['name'] == 'convnext_tiny' and asked['out_indices'] == (1, 2)
    assert asked['features_only'] and not asked['pretrained']
    assert model.out_channels == (4, 8) and model.out_strides == (8, 16)
    assert [m.shape[1] for m in model(torch.zeros(1, 3, 64, 64))] == [4, 8]
