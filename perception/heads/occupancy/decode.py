"""Raw occupancy logits -> voxels in Occ3D order."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...contracts import Occupancy
from .voxels import CLASSES


def decode_occupancy(logits_BCYX: Tensor) -> list[Occupancy]:
    """Logits `(B, Z * 18, Y, X)`, channel z * 18 + class -> per sample the likeliest class `(X, Y, Z)` and its softmax."""
    return [_one_sample(one) for one in logits_BCYX.detach()]


def _one_sample(logits_CYX: Tensor) -> Occupancy:
    # height by height, so that the numbers of one stay in the processor's cache
    answers = [_likeliest(one) for one in logits_CYX.float().unflatten(0, (-1, CLASSES))]
    label, confidence = (torch.stack(part) for part in zip(*answers, strict=True))
    return Occupancy(_to_XYZ(label, np.uint8), _to_XYZ(confidence, np.float16))


def _likeliest(logits_CYX: Tensor) -> tuple[Tensor, Tensor]:
    best, label = logits_CYX.max(0)
    return label.to(torch.uint8), 1 / torch.exp(logits_CYX - best).sum(0)


def _to_XYZ(values_ZYX: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values_ZYX.cpu().numpy().transpose(2, 1, 0).astype(dtype))
