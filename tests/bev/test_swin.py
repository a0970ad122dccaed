"""Swin transformer: sizes, names, windows against a loop, padding, drop path, recomputing, its graph."""
from __future__ import annotations

import pytest
import torch

from perception.bev.backbones.lss_fpn import GeneralizedLSSFPN
from perception.bev.backbones.swin import DropPath, PatchMerging, SwinTransformer
from perception.bev.backbones.windows import (
    APART,
    WindowAttention,
    from_windows,
    relative_offsets,
    shifted_apart,
    shifts,
    to_windows,
)
from tests.export_check import assert_exports

TINY = dict(channels=8, layers=(2, 2, 2), heads=(1, 2, 4), window=3, out_stages=(2, 3))
CPU = torch.device('cpu')


def make_swin(**options: object) -> SwinTransformer:
    torch.manual_seed(0)
    return SwinTransformer(**{**TINY, **options})


def test_size_is_the_published_one_and_names_are_torchvisions():
    with torch.device('meta'):
        model = SwinTransformer()
    # torchvision's swin_t less its classifier, and a norm for each of two more maps
    assert sum(p.numel() for p in model.parameters()) == 28_288_354 - 769_000 + 2 * (192 + 384)
    names = set(model.state_dict())
    assert {
        'features.0.0.weight', 'features.0.2.bias', 'features.1.1.norm1.weight', 'features.6.norm.bias',
        'features.2.reduction.weight', 'features.5.5.attn.relative_position_bias_table',
        'features.3.0.attn.qkv.bias', 'features.7.1.mlp.0.weight', 'features.7.1.mlp.3.weight'} <= names
    assert {name.split('.')[0] for name in names} == {'features', 'norms'}
    blocks = [part.drop.share for i in (1, 3, 5, 7) for part in model.features[i]]
    assert blocks[0] == 0 and blocks[-1] == pytest.approx(0.2) and blocks == sorted(blocks)


@pytest.mark.parametrize(('image_hw', 'sizes'), [
    ((48, 96), [(6, 12), (3, 6)]), ((40, 88), [(5, 11), (3, 6)]), ((42, 90), [(6, 12), (3, 6)])])
def test_maps_have_the_promised_strides_and_channels(image_hw, sizes):
    model = make_swin().eval()
    maps = model(torch.randn(2, 3, *image_hw))
    assert model.out_channels == (16, 32) and model.out_strides == (8, 16)
    assert [tuple(m.shape) for m in maps] == [(2, c, *s) for c, s in zip((16, 32), sizes, strict=True)]
    assert len(make_swin(out_stages=(1,)).features) == 2  # later stages are not built


# -------------------------------------------------------------------- windows

def test_windows_come_row_by_row_and_go_back():
    places = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    windows = to_windows(places, 2)
    assert windows.shape == (12, 4, 1)
    assert windows[0, :, 0].tolist() == [0, 1, 6, 7] and windows[1, :, 0].tolist() == [2, 3, 8, 9]
    assert windows[3, :, 0].tolist() == [12, 13, 18, 19] and windows[6, 0, 0] == 24
    assert torch.equal(from_windows(windows, 2, (4, 6)), places)


def test_offsets_by_hand():
    """A window of 2 has offsets -1, 0, 1 down and right: rows 0 to 8 of the table, 4 in the middle."""
    assert relative_offsets(2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@pytest.mark.parametrize('size_hw', [(6, 6), (3, 9), (6, 3)])
def test_only_neighbours_attend_after_the_shift(size_hw):
    """Two tokens of a shifted window see each other if neither side wrapped between them."""
    window, shift = 3, shifts(size_hw, 3)
    assert shift == tuple(0 if side == 3 else 1 for side in size_hw)
    rows, columns = torch.meshgrid(*map(torch.arange, size_hw), indexing='ij')
    places = torch.stack([rows, columns], -1)[None]
    rolled = to_windows(torch.roll(places, [-s for s in shift], (1, 2)), window)  # (R, T, 2): where from
    near = ((rolled[:, :, None] - rolled[:, None]).abs() < window).all(-1)
    assert torch.equal(shifted_apart(size_hw, window, shift, CPU) == 0, near)
    assert shifted_apart(size_hw, window, shift, CPU).min() == (APART if not near.all() else 0)


@torch.no_grad()
def test_attention_is_that_of_the_formula():
    """Head by head and query by query, equation 4."""
    torch.manual_seed(0)
    layer = WindowAttention(6, 2, 2)
    layer.relative_position_bias_table.normal_()
    windows = torch.randn(4, 4, 6)
    apart = torch.zeros(2, 4, 4)
    apart[1, 0, 3] = APART
    expected = torch.zeros(4, 4, 6)
    for r in range(4):
        query, key, value = layer.qkv(windows[r]).chunk(3, -1)
        for h in range(2):
            part = slice(3 * h, 3 * h + 3)
            for q in range(4):
                bias = layer.relative_position_bias_table[relative_offsets(2)[q], h]
                logits = key[:, part] @ query[q, part] / 3 ** 0.5 + bias + apart[r % 2, q]
                expected[r, q, part] = logits.softmax(0) @ value[:, part]
    torch.testing.assert_close(layer(windows, apart), layer.proj(expected), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_merging_takes_what_lies_below_before_what_lies_right():
    merging = PatchMerging(1)
    merging.norm, merging.reduction = torch.nn.Identity(), torch.nn.Identity()
    assert merging(torch.arange(6.0).view(1, 2, 3, 1))[0, 0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]


# -------------------------------------------------------------------- training

def test_drop_path_keeps_the_mean_and_whole_samples():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    out = drop(torch.ones(4000, 2, 2, 3))
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(out.amin((1, 2, 3)), out.amax((1, 2, 3)))
    assert out.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(out), out)


def test_recomputing_changes_no_value_and_no_gradient():
    images, outputs = torch.randn(2, 3, 32, 48), []
    for checkpoint in (False, True):
        model = make_swin(checkpoint=checkpoint, drop_path=0.5).train()
        torch.manual_seed(1)
        maps = model(images)
        sum(m.square().sum() for m in maps).backward()
        gradients = [p.grad for p in model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        outputs.append([*maps, *gradients])
    torch.testing.assert_close(*outputs)


def test_half_precision_gives_finite_maps_and_gradients():
    model = make_swin().train()
    with torch.autocast('cpu', torch.bfloat16):
        maps = model(torch.randn(1, 3, 32, 48))
        loss = sum(m.float().square().mean() for m in maps)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    exact = make_swin().eval()(torch.zeros(1, 3, 32, 48))
    with torch.autocast('cpu', torch.bfloat16):
        rough = make_swin().eval()(torch.zeros(1, 3, 32, 48))
    torch.testing.assert_close(rough[-1].float(), exact[-1], atol=0.1, rtol=0.1)


def test_it_exports(tmp_path):
    """Padded, shifted and merged at odd sizes, with the neck behind it."""
    pytest.importorskip('onnxruntime')
    backbone = make_swin(layers=(2, 1), heads=(1, 2), out_stages=(1, 2))
    for part in backbone.modules():
        if isinstance(part, WindowAttention):
            torch.nn.init.normal_(part.relative_position_bias_table)
    network = torch.nn.Sequential(backbone, GeneralizedLSSFPN(backbone.out_channels, 8))
    operators = assert_exports(network, [torch.randn(2, 3, 40, 56)], tmp_path)
    assert not {'Loop', 'If', 'ScatterND', 'NonZero', 'Einsum'} & operators


# -------------------------------------------------------------------- weights

def classifier_file(model: SwinTransformer, path, **more: torch.Tensor) -> str:
    """Weights as torchvision keeps those of a classifier."""
    last = f'norms.{max(map(int, model.norms))}.'
    state = {name.replace(last, 'norm.'): value for name, value in model.state_dict().items()
             if name.startswith(('features', last))}
    state |= {'head.weight': torch.zeros(2, 3), 'features.1.0.attn.relative_position_index': torch.zeros(81)}
    torch.save({**state, **more}, path)
    return str(path)


def test_torchvisions_weights_load_and_strangers_are_refused(tmp_path):
    source = make_swin()
    torch.nn.init.normal_(source.norms['3'].weight)
    path = classifier_file(source, tmp_path / 'swin.pth')
    torch.manual_seed(3)
    loaded = SwinTransformer(**TINY, pretrained=path)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in source.state_dict().items())

    with pytest.raises(ValueError, match=r'does not fit SwinTransformer.*another shape.*bias_table'):
        SwinTransformer(**{**TINY, 'window': 5}, pretrained=path)
    deeper = classifier_file(source, tmp_path / 'deeper.pth', **{'features.3.2.norm1.weight': torch.ones(16)})
    with pytest.raises(ValueError, match=r'1 of a deeper network.*features.3.2.norm1.weight'):
        SwinTransformer(**TINY, pretrained=deeper)

    # a stage that is not built is left out
    assert len(SwinTransformer(**{**TINY, 'out_stages': (1, 2)}, pretrained=path).features) == 4


@pytest.mark.parametrize(('wrong', 'message'), [
    (dict(out_stages=(5,)), 'out_stages'), (dict(out_stages=()), 'out_stages'),
    (dict(heads=(1, 2)), 'one length'), (dict(heads=(3, 2, 4)), 'divisor of 8'),
    (dict(drop_path=1.0), 'drop_path')])
def test_it_refuses_nonsense(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_swin(**wrong)


# -------------------------------------------------------------------- neck

def test_the_concatenating_neck_reads_from_the_coarsest_down():
    maps = [torch.randn(2, c, 16 // s, 24 // s) for c, s in ((4, 1), (6, 2), (8, 4))]
    neck = GeneralizedLSSFPN((4, 6, 8), 10)
    assert [part[0].in_channels for part in neck.lateral] == [4 + 10, 6 + 8]
    out = neck(maps)
    assert [m.shape for m in out] == [(2, 10, 16, 24), (2, 10, 8, 12)]
    out[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())
    with pytest.raises(ValueError, match='two maps'):
        GeneralizedLSSFPN((4,))
