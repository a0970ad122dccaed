"""Image backbones: a compact ResNet with torchvision's parameter names, and any backbone of timm."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from ...registry import MODELS
from ..ops.blocks import BasicBlock, Bottleneck, residual_stage
from ..ops.norms import still_statistics
from .pretrained import load_backbone_weights

_DEPTHS: dict[int, tuple[type[nn.Module], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


@MODELS.register_module()
class ResNet(nn.Module):
    """ResNet (He et al., 2016, arXiv 1512.03385) without its classifier, with torchvision's names.

    Args:
        depth: 18, 34, 50 or 101.
        width: factor on all channel counts (0.5 makes a small model for a CPU).
        out_stages: which of the stages 1..4 (strides 4, 8, 16, 32) to return; later stages are not built.
        frozen_stages: freeze the stem and that many stages, their batch norms included; -1 freezes nothing, 0
            the stem.
        frozen_bn: batch norms keep their running statistics and are not trained (small batches, published
            weights).
        checkpoint: recompute stages in the backward pass instead of keeping their activations.
        pretrained: file with published weights (torchvision or a `state_dict` of it), read with
            `weights_only`.

    Attributes:
        out_channels: channels of each returned map.
        out_strides: pixels per cell of each.

    Raises:
        ValueError: unknown depth or stage, or the weights do not fit (the message names the parameters).
    """

    def __init__(
        self,
        depth: int = 50,
        width: float = 1.0,
        out_stages: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        frozen_bn: bool = False,
        checkpoint: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        if depth not in _DEPTHS:
            raise ValueError(f'ResNet.depth: expected one of {tuple(_DEPTHS)}, found {depth}')
        self.out_stages = tuple(sorted(out_stages))
        if not self.out_stages or not set(self.out_stages) <= {1, 2, 3, 4}:
            raise ValueError(f'ResNet.out_stages: expected some of 1, 2, 3, 4, found {tuple(out_stages)}')
        self.frozen_stages = frozen_stages
        self.frozen_bn = frozen_bn
        self.checkpoint = checkpoint

        base = max(8, round(64 * width / 8) * 8)
        self.conv1 = nn.Conv2d(3, base, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)

        # torchvision's names: layer1 to layer4, the first one without a stride
        block, layers = _DEPTHS[depth]
        channels = base
        for stage in range(1, self.out_stages[-1] + 1):
            inner = base * 2 ** (stage - 1)
            stride = 1 if stage == 1 else 2
            setattr(self, f'layer{stage}', residual_stage(block, channels, inner, layers[stage - 1], stride))
            channels = inner * block.expansion
        self.out_channels = tuple(base * 2 ** (stage - 1) * block.expansion for stage in self.out_stages)
        self.out_strides = tuple(2 ** (stage + 1) for stage in self.out_stages)

        initialise(self)
        if pretrained is not None:
            stages = [f'layer{stage}.' for stage in range(1, self.out_stages[-1] + 1)]
            load_backbone_weights(self, pretrained, stages)
        self._freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images `(BN, 3, H, W)` -> a map `(BN, C, H / stride, W / stride)` for each out stage."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in range(1, self.out_stages[-1] + 1):
            x = self._run(getattr(self, f'layer{stage}'), x)
            if stage in self.out_stages:
                maps.append(x)
        return tuple(maps)

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpoint and self.training and torch.is_grad_enabled()):
            return stage(x)
        # the recomputing pass sees the same data: its batch norms must not count them twice
        return recompute(
            stage, x, use_reentrant=False, context_fn=lambda: (nullcontext(), still_statistics(stage))
        )

    def train(self, mode: bool = True) -> ResNet:
        """As `nn.Module.train`; what is frozen stays in evaluation."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        frozen = [] if self.frozen_stages < 0 else [self.conv1, self.bn1]
        frozen += [
            getattr(self, f'layer{stage}')
            for stage in range(1, self.frozen_stages + 1)
            if hasattr(self, f'layer{stage}')
        ]
        frozen += [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)] if self.frozen_bn else []
        for module in frozen:
            module.eval().requires_grad_(False)


def initialise(module: nn.Module) -> None:
    """He initialisation for convolutions (fan out); the last norm of a residual block stays at one."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode='fan_out', nonlinearity='relu')


@MODELS.register_module()
class TimmBackbone(nn.Module):
    """Any feature backbone of the timm library, where it is installed and can be imported.

    Args:
        name: timm's name, with or without 'timm:' before it.
        out_indices: which of its feature maps to return.
        pretrained: file with weights for timm's model; nothing is downloaded.

    Raises:
        ImportError: timm is not installed, or cannot be imported with this torch.
    """

    def __init__(
        self, name: str, out_indices: Sequence[int] = (2, 3, 4), pretrained: str | None = None
    ) -> None:
        super().__init__()
        try:
            import timm
        except (ImportError, RuntimeError) as error:
            raise ImportError(
                f'backbone {name!r} needs timm, which cannot be imported here ({error}); '
                f"use type='ResNet' instead"
            ) from error

        overlay = dict(file=pretrained) if pretrained else None
        self.body = timm.create_model(
            name.removeprefix('timm:'), features_only=True, out_indices=tuple(out_indices),
            pretrained=pretrained is not None, pretrained_cfg_overlay=overlay)
        self.out_channels = tuple(self.body.feature_info.channels())
        self.out_strides = tuple(self.body.feature_info.reduction())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images `(BN, 3, H, W)` -> feature maps, finest first."""
        return tuple(self.body(images))
