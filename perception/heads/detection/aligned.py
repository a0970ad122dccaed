"""A box code read again along the box's own axes."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.blocks import conv_bn_relu
from .targets import BOX_CODE, CODE_VELOCITY, HEADING

_ALONG = (-1.2, -0.7, 0.0, 0.7, 1.2)
"""Where features are read, in half lengths from the centre: before, at and behind both ends."""
_ACROSS = (-0.9, 0.0, 0.9)
"""And in half widths."""
_FOOTPRINT = slice(BOX_CODE.index('log_length'), BOX_CODE.index('log_width') + 1)
_HALF_CELLS = (1.0, 16.0)
"""Least and most half length or width, in cells: people are smaller, untrained boxes of any size."""


class AlignedCode(nn.Module):
    """Correct heading and velocity of each cell's box by what is read along the box's own axes.

    What tells an object's front from its back, and what a moving one leaves behind, looks different on the
    map for each heading, but the same along the box; and the ends of a bus are farther from its centre's cell
    than a head's layers see. So features are read at 5 x 3 points that turn with the box which the first
    branch says. From them come a turn (sine and cosine) and a velocity in the box's frame, by which the code
    is corrected. Before training they correct nothing.

    Reading a box's features again is CenterPoint's second stage (Yin et al. 2021, arXiv 2006.11275, section
    4.2: at the centres of the faces, of boxes that were decoded); in every cell it is the alignment
    convolution of S2A-Net (Han et al. 2021, arXiv 2008.09397, section III-B).

    Args:
        in_channels: of the features.
        channels: of what is read at each point.
        cell_m: side of a code's cell.
        velocity_unit: m/s that one of the last layer's numbers stands for.
        hidden: width of the layer behind the points.
    """

    def __init__(
        self, in_channels: int, channels: int, cell_m: float, velocity_unit: float = 1.0, hidden: int = 64
    ) -> None:
        super().__init__()
        self.cell_m, self.velocity_unit = cell_m, velocity_unit
        places = [(along, across) for along in _ALONG for across in _ACROSS]
        self.register_buffer('places_P2', torch.tensor(places), persistent=False)

        self.reduce = conv_bn_relu(in_channels, channels, kernel=1)
        self.hidden = conv_bn_relu(channels * len(places), hidden, kernel=1)
        self.last = nn.Conv2d(hidden, 4, 1)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))

    def forward(self, features_BCYX: Tensor, code_BCYX: Tensor) -> Tensor:
        """Correct a code.

        Args:
            features_BCYX: map of features, of any cells over the same ground.
            code_BCYX: `(B, 10, Y, X)`, the numbers of `BOX_CODE`.

        Returns:
            The code, float32 `(B, 10, Y, X)`, its heading of length 1 before training.
        """
        code = code_BCYX.float()
        heading = F.normalize(code[:, HEADING], dim=1, eps=1e-4)
        read = self._read(self.reduce(features_BCYX), code.detach(), heading.detach())

        turn_sin, turn_cos, ahead, left = self.last(self.hidden(read)).float().unbind(1)
        sin, cos = heading.unbind(1)
        turned = torch.stack([sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin], 1)

        axis_sin, axis_cos = sin.detach(), cos.detach()
        more = torch.stack([axis_cos * ahead - axis_sin * left, axis_sin * ahead + axis_cos * left], 1)
        velocity = code[:, CODE_VELOCITY] + more * self.velocity_unit
        return torch.cat([code[:, :HEADING.start], turned, velocity], 1)

    def _read(self, maps_BCYX: Tensor, code_BCYX: Tensor, heading_B2YX: Tensor) -> Tensor:
        """Features at the points of each cell's box, `(B, C * P, Y, X)`."""
        batch, _, rows, columns = code_BCYX.shape
        half_B2YX = code_BCYX[:, _FOOTPRINT].clamp(-5, 5).exp() / (2 * self.cell_m)
        half_B2YX = half_B2YX.clamp(*_HALF_CELLS)

        # (B, 2, P, Y, X): along the box and across it, in cells
        points = half_B2YX[:, :, None] * self.places_P2.T[None, :, :, None, None]
        along, across = points.unbind(1)
        sin, cos = heading_B2YX[:, :, None].unbind(1)
        offset_x, offset_y = code_BCYX[:, :2].clamp(-1, 2)[:, :, None].unbind(1)

        column = torch.arange(columns, dtype=torch.float32, device=code_BCYX.device)
        row = torch.arange(rows, dtype=torch.float32, device=code_BCYX.device)[:, None]
        x = column + offset_x + cos * along - sin * across
        y = row + offset_y + sin * along + cos * across

        # cells, counted from the map's corner, to -1 .. 1
        grid = torch.stack([x * (2 / columns) - 1, y * (2 / rows) - 1], -1)
        read = F.grid_sample(
            maps_BCYX.float(), grid.flatten(1, 2), mode='bilinear', padding_mode='zeros', align_corners=False)
        return read.reshape(batch, -1, rows, columns)
