"""Swin transformer: an image backbone of attention within windows, with torchvision's parameter names."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from ...registry import MODELS
from .pretrained import load_backbone_weights
from .windows import WindowAttention, from_windows, padded, shifted_apart, shifts, to_windows

PATCH = 4
"""Pixels along a side of what becomes one token."""


@MODELS.register_module()
class SwinTransformer(nn.Module):
    """Swin-T (Liu et al., 2021, arXiv 2103.14030) without its classifier; the defaults are the T.

    Maps that are no whole windows are padded with zeros below and to the right, as detectors do. Along a side
    that one window holds, nothing is shifted.

    Args:
        channels: of the first stage, doubled at each further one.
        layers: blocks of each stage.
        heads: of each stage's attention.
        window: cells along a side of a window.
        drop_path: share of residual branches that training drops in the last block, growing from 0 in the
            first (Huang et al., 2016, arXiv 1603.09382).
        out_stages: which of the stages 1..4 (strides 4, 8, 16, 32) to return; later ones are not built.
        checkpoint: recompute blocks in the backward pass instead of keeping their activations.
        pretrained: file with torchvision's weights (swin_t), read with `weights_only`; other sources by
            `tools/import_weights.py`. Norms of returned maps are not among a classifier's weights but for the
            last.

    Attributes:
        out_channels: channels of each returned map.
        out_strides: pixels per cell of each.

    Raises:
        ValueError: an unknown stage, unequal lengths, or the weights do not fit (the message names the
            parameters).
    """

    def __init__(
        self,
        channels: int = 96,
        layers: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.2,
        out_stages: Sequence[int] = (2, 3, 4),
        checkpoint: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.out_stages = tuple(sorted(out_stages))
        if len(layers) != len(heads):
            raise ValueError(
                f'SwinTransformer: expected layers and heads of one length, found {layers}, {heads}')
        if not self.out_stages or not set(self.out_stages) <= set(range(1, len(layers) + 1)):
            raise ValueError(
                f'SwinTransformer.out_stages: expected some of 1..{len(layers)}, found {tuple(out_stages)}')
        if not 0 <= drop_path < 1:
            raise ValueError(f'SwinTransformer.drop_path: expected 0 <= drop_path < 1, found {drop_path}')
        self.out_channels = tuple(channels * 2 ** (stage - 1) for stage in self.out_stages)
        self.out_strides = tuple(PATCH * 2 ** (stage - 1) for stage in self.out_stages)

        # torchvision's row: the patches, then stages with a merging between two
        self.features = nn.ModuleList([_patches(channels)])
        first, step = 0, drop_path / max(1, sum(layers) - 1)
        for i in range(self.out_stages[-1]):
            width = channels * 2 ** i
            if i:
                self.features.append(PatchMerging(width // 2))
            drops = [step * (first + j) for j in range(layers[i])]
            self.features.append(SwinStage(width, heads[i], window, drops, checkpoint))
            first += layers[i]
        self.norms = nn.ModuleDict({
            str(stage): nn.LayerNorm(width)
            for stage, width in zip(self.out_stages, self.out_channels, strict=True)})

        _initialise(self)
        if pretrained is not None:
            _load_published(self, pretrained, len(layers))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images `(BN, 3, H, W)` -> a map `(BN, C, H / stride, W / stride)` for each out stage.

        Sides that a stride does not divide are rounded up.
        """
        patches = self.features[0]
        pixels = padded(images.permute(0, 2, 3, 1), PATCH).permute(0, 3, 1, 2)
        x = patches['2'](patches['0'](pixels).permute(0, 2, 3, 1))

        maps = []
        for i, part in enumerate(self.features[1:]):
            x = part(x)
            stage = str(i // 2 + 1)
            if i % 2 == 0 and stage in self.norms:
                maps.append(self.norms[stage](x).permute(0, 3, 1, 2))
        return tuple(maps)


class SwinStage(nn.ModuleList):
    """Blocks on maps of one size, every second one with its windows shifted.

    Args:
        channels: C.
        heads: of the attention.
        window: cells along a side.
        drops: of each block, see `DropPath`.
        checkpoint: recompute blocks in the backward pass.
    """

    def __init__(
        self, channels: int, heads: int, window: int, drops: Sequence[float], checkpoint: bool
    ) -> None:
        super().__init__(SwinBlock(channels, heads, window, drop) for drop in drops)
        self.window = window
        self.checkpoint = checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """`(B, Y, X, C)` to the same."""
        size_hw = tuple(side + -side % self.window for side in x.shape[1:3])
        shift = shifts(size_hw, self.window)
        apart = shifted_apart(size_hw, self.window, shift, x.device) if any(shift) else None

        again = self.checkpoint and self.training and torch.is_grad_enabled()
        for i, block in enumerate(self):
            options = (shift, apart) if i % 2 else ((0, 0), None)
            # drawn paths are drawn the same again
            x = recompute(block, x, *options, use_reentrant=False) if again else block(x, *options)
        return x


class SwinBlock(nn.Module):
    """Attention within windows and a layer of two, each behind a norm and beside a shortcut (figure 3b).

    Args:
        channels: C.
        heads: of the attention.
        window: cells along a side.
        drop: see `DropPath`.
    """

    def __init__(self, channels: int, heads: int, window: int, drop: float) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.drop = DropPath(drop)
        self.norm2 = nn.LayerNorm(channels)
        # numbered as torchvision's, whose dropout of rate 0 is left out
        self.mlp = nn.Sequential(OrderedDict([
            ('0', nn.Linear(channels, 4 * channels)), ('1', nn.GELU()),
            ('3', nn.Linear(4 * channels, channels))]))

    def forward(self, x: Tensor, shift_yx: tuple[int, int], apart_RTT: Tensor | None) -> Tensor:
        """`(B, Y, X, C)` to the same; `apart_RTT` as in `WindowAttention`, None where nothing is shifted."""
        x = x + self.drop(self.attend(self.norm1(x), shift_yx, apart_RTT))
        return x + self.drop(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor, shift_yx: tuple[int, int], apart_RTT: Tensor | None) -> Tensor:
        """Attention of a map `(B, Y, X, C)`, padded and shifted, and back in its place."""
        height, width = x.shape[1:3]
        x = padded(x, self.window)
        size_hw, (down, right) = tuple(x.shape[1:3]), shift_yx

        x = torch.roll(x, (-down, -right), (1, 2)) if any(shift_yx) else x
        x = from_windows(self.attn(to_windows(x, self.window), apart_RTT), self.window, size_hw)
        x = torch.roll(x, (down, right), (1, 2)) if any(shift_yx) else x
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the width (section 3.1).

    Their order is that of the authors and torchvision: down first, then right; mmdet's differs.

    Args:
        channels: of the finer map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, Y, X, C)` -> `(B, Y / 2, X / 2, 2 C)`, sides rounded up."""
        pairs = padded(x, 2).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, Y / 2, 2, X / 2, 2, C)
        return self.reduction(self.norm(pairs.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class DropPath(nn.Module):
    """Leaves a residual branch out for some samples of a training batch, and makes up for it in the others.

    Args:
        share: of the samples, in 0..1.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ...)` to the same."""
        if not (self.training and self.share):
            return x
        kept = torch.empty(len(x), *[1] * (x.ndim - 1), device=x.device).bernoulli_(1 - self.share)
        return x * (kept / (1 - self.share)).to(x.dtype)


def _patches(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({'0': nn.Conv2d(3, channels, PATCH, PATCH), '2': nn.LayerNorm(channels)})


def _initialise(module: nn.Module) -> None:
    """As the authors: narrow normal weights and tables, no biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, WindowAttention):
            nn.init.trunc_normal_(part.relative_position_bias_table, std=0.02)


def _load_published(module: SwinTransformer, path: str, stages: int) -> None:
    """Load a classifier's file: its one norm is the last stage's."""
    last = f'norms.{stages}.'
    new = [f'norms.{name}' for name in module.norms.state_dict() if not f'norms.{name}'.startswith(last)]
    built = [f'features.{i}.' for i in range(len(module.features))]
    load_backbone_weights(module, path, built, {'norm.': last}, new)
