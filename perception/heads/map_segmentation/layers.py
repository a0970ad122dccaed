"""Published alternatives inside the map head: a residual decoder, and upsampling that is learned."""
from __future__ import annotations

from torch import Tensor, nn

from ..layers import conv_stack

DECODERS = ('plain', 'instance_residual')
UPSAMPLING = ('transposed', 'pixel_shuffle')


def conv_in(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Convolution (no bias, size kept) and instance norm with scale and shift."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
                         nn.InstanceNorm2d(out_channels, affine=True))


class InstanceResidualBlock(nn.Module):
    """Conv, instance norm, ReLU, conv, instance norm beside a 1x1 convolution as shortcut; ReLU.

    The statistics are those of one map of one sample, so they are the same in training and evaluation (layout
    as in the decoder of Schramm et al. 2024, BEVCar, arXiv 2403.11761).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_in(in_channels, channels), nn.ReLU(inplace=True), conv_in(channels, channels)
        )
        self.shortcut = nn.Conv2d(in_channels, channels, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, bev_BCYX: Tensor) -> Tensor:
        """`(B, in, Y, X)` -> `(B, channels, Y, X)`."""
        return self.relu(self.body(bev_BCYX) + self.shortcut(bev_BCYX))


def map_decoder(kind: str, in_channels: int, width: int, layers: int) -> nn.Sequential:
    """Build the convolutions before the last one.

    'plain' are batch-normed ones, 'instance_residual' are `layers` residual blocks with instance norm
    followed by two convolutions with instance norm.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in DECODERS:
        raise ValueError(f'decoder: expected one of {DECODERS}, found {kind!r}')
    if kind == 'plain':
        return conv_stack(in_channels, width, layers)

    blocks = [InstanceResidualBlock(in_channels if i == 0 else width, width) for i in range(layers)]
    ends = [nn.Sequential(conv_in(width, width), nn.ReLU(inplace=True)) for _ in range(2)]
    return nn.Sequential(*blocks, *ends)


def learned_upsample(kind: str, channels: int) -> nn.Sequential:
    """Build layers that halve the length of the cells: `(B, C, Y, X)` -> `(B, C, 2Y, 2X)`.

    'transposed' is a transposed convolution (kernel 4, stride 2), 'pixel_shuffle' moves channels into cells.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in UPSAMPLING:
        raise ValueError(f'upsample: expected None or one of {UPSAMPLING}, found {kind!r}')

    if kind == 'transposed':
        grow = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    else:
        grow = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2)
        )
    return nn.Sequential(grow, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
