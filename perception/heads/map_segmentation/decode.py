"""Raw map logits -> probabilities on the task's grid."""
from __future__ import annotations

import torch
from torch import Tensor

from ...core.contracts import MapSegmentation
from ...core.grid import BEVGrid


def decode_map(raw: dict[str, Tensor], grid: BEVGrid) -> list[MapSegmentation]:
    """Logits `(B, 6, Y, X)` -> B answers with float32 probabilities."""
    probabilities = torch.sigmoid(raw['logits'].detach().float()).cpu().numpy()
    return [MapSegmentation(one, grid.x_range_m, grid.y_range_m) for one in probabilities]
