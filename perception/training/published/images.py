"""Tables of names of image backbones: ResNet, and Swin in the four forms it is published in."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .rules import Rule
from .turning import Axes

IMAGE = 'encoders.camera.backbone.'
LISTS = (IMAGE + 'features.', IMAGE + 'norms.')
"""Rows of Swin's parts, of which a model may have the first ones or some."""
INNER_NORMS = (r'encoders\.camera\.backbone\.norms\.[1-3]\..*',)
"""A classifier has a norm behind its last stage alone."""

_STAGES = range(4)
# names as torchvision has them: conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, ...
_RESNET = r'((?:conv1|bn1|layer[1-4]\.\d+\.(?:conv|bn)[1-3]|layer[1-4]\.\d+\.downsample\.[01])\.\w+)'

# what a block of Swin holds: our names, mmdet's and the authors' as patterns
_ATTENTION = r'(relative_position_bias_table|qkv\.weight|qkv\.bias|proj\.weight|proj\.bias)'
_MMDET_BLOCK = (
    (r'(norm[12]\.\w+)', r'\2'), (r'attn\.w_msa\.' + _ATTENTION, r'attn.\2'),
    (r'ffn\.layers\.0\.0\.(\w+)', r'mlp.0.\2'), (r'ffn\.layers\.1\.(\w+)', r'mlp.3.\2'))
_AUTHORS_BLOCK = (
    (r'(norm[12]\.\w+)', r'\2'), (r'attn\.' + _ATTENTION, r'attn.\2'),
    (r'mlp\.fc1\.(\w+)', r'mlp.0.\2'), (r'mlp\.fc2\.(\w+)', r'mlp.3.\2'))

_LAST_NORM = Rule(r'norm\.(\w+)', IMAGE + r'norms.4.\1')


def resnet(prefix: str = '') -> list[Rule]:
    """ResNet by torchvision's names, which all sources share."""
    return [Rule(prefix + _RESNET, IMAGE + r'\1')]


def swin_torchvision() -> list[Rule]:
    """swin_t of torchvision: our own names, but for its one norm behind the last stage."""
    return [
        Rule(r'(features\.(?:(?!relative_position_index).)*)', IMAGE + r'\1'), _LAST_NORM]


def swin_timm() -> list[Rule]:
    """swin_tiny_patch4_window7_224 of timm 0.9 and later: a merging stands at the start of a stage."""
    return [
        *_stages('', 'layers', _AUTHORS_BLOCK), *_stem('', 'proj'), *_merging('', 'layers', 0, None),
        _LAST_NORM]


def swin_authors() -> list[Rule]:
    """The authors' classifier, and detectors of theirs: BEVFusion's nuImages weights are one."""
    optional = r'(?:backbone\.)?'
    return [
        *_stages(optional, 'layers', _AUTHORS_BLOCK), *_stem(optional, 'proj'),
        *_merging(optional, 'layers', 1, None), *_norms(optional), _LAST_NORM]


def swin_mmdet(prefix: str) -> list[Rule]:
    """SwinTransformer of mmdet, which is BEVFusion's too: its merging has another order of neighbours."""
    return [*_stages(prefix, 'stages', _MMDET_BLOCK), *_stem(prefix, 'projection'),
            *_merging(prefix, 'stages', 1, by_neighbours), *_norms(prefix)]


def by_neighbours(tensor: Tensor, axes: Axes) -> Tensor:
    """Columns of a merging in the order channel, down, right as right, down, channel.

    Args:
        tensor: its kernel `(2 C, 4 C)`, or its norm's `(4 C,)`.
        axes: not needed.

    Raises:
        ValueError: no multiple of four columns.
    """
    if tensor.shape[-1] % 4:
        raise ValueError(f'expected four columns for each channel, found {tuple(tensor.shape)}')
    return torch.movedim(tensor.unflatten(-1, (-1, 2, 2)), (-1, -3), (-3, -1)).flatten(-3)


def _stem(prefix: str, projection: str) -> list[Rule]:
    return [
        Rule(rf'{prefix}patch_embed\.{projection}\.(\w+)', IMAGE + r'features.0.0.\1'),
        Rule(prefix + r'patch_embed\.norm\.(\w+)', IMAGE + r'features.0.2.\1')]


def _stages(prefix: str, row: str, block: tuple[tuple[str, str], ...]) -> list[Rule]:
    return [
        Rule(rf'{prefix}{row}\.{i}\.blocks\.(\d+)\.{theirs}', f'{IMAGE}features.{2 * i + 1}.\\1.{ours}')
        for i in _STAGES for theirs, ours in block]


def _merging(
    prefix: str, row: str, behind: int, change: Callable[[Tensor, Axes], Tensor] | None
) -> list[Rule]:
    """The merging of stage i: behind it (1) or before it (0)."""
    return [
        Rule(rf'{prefix}{row}\.{i}\.downsample\.((?:norm|reduction)\.\w+)',
             f'{IMAGE}features.{2 * (i + behind)}.\\1', change)
        for i in _STAGES]


def _norms(prefix: str) -> list[Rule]:
    return [Rule(rf'{prefix}norm{i}\.(\w+)', f'{IMAGE}norms.{i + 1}.\\1') for i in _STAGES]
