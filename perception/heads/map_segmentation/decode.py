"""Raw map logits -> probabilities on the task's grid."""
from __future__ import annotations

import torch
from torch import Tensor

from ...core.contracts import MapSegmentation
from ...core.grid import BEVGrid


def decode_map(raw: dict[str, Tensor], grid: BEVGrid) -> list[MapSegmentation]:
    """Decode logits `(B, 6, Y, X)` to B predictions with float32 probabilities."""
    probabilities_B6YX = torch.sigmoid(raw['logits'].detach().float()).cpu().numpy()
    return [
        MapSegmentation(probabilities_6YX, grid.x_range_m, grid.y_range_m)
        for probabilities_6YX in probabilities_B6YX
    ]
