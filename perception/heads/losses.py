"""Losses and entropies that several heads share. All take raw logits and compute in float32."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float | None = None
) -> Tensor:
    """Focal loss per element (Lin et al. 2017, arXiv 1708.02002, equations 4 and 5).

    Args:
        logits: any shape.
        targets: 0 or 1, same shape.
        gamma: how strongly well classified elements fade.
        alpha: weight of the positives (1 - alpha for the rest); None gives both the weight 1.

    Returns:
        float32 losses of the same shape.
    """
    logits, targets = logits.float(), targets.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')

    # 1 - p_t, as the publication writes it
    probability = torch.sigmoid(logits)
    miss = probability + targets - 2 * probability * targets
    loss = cross_entropy * (miss * miss if gamma == 2 else miss.pow(gamma))
    return loss if alpha is None else loss * (alpha * targets + (1 - alpha) * (1 - targets))


def gaussian_focal_loss(logits: Tensor, heatmap: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Penalty-reduced focal loss per cell (Zhou et al. 2019, arXiv 1904.07850, equation 1).

    Cells where the heatmap is exactly 1 are objects; elsewhere, the closer it is to 1, the less a confident
    prediction costs.

    Args:
        logits: any shape.
        heatmap: 0..1, same shape.
        alpha: how strongly well classified cells fade.
        beta: how strongly cells near an object fade.

    Returns:
        float32 losses of the same shape; divide their sum by the number of objects.
    """
    logits = logits.float()
    probability = torch.sigmoid(logits)

    at_objects = -F.logsigmoid(logits) * (1 - probability).pow(alpha)
    elsewhere = -F.logsigmoid(-logits) * probability.pow(alpha) * (1 - heatmap).pow(beta)
    return torch.where(heatmap == 1, at_objects, elsewhere)


def binary_entropy(logits: Tensor) -> Tensor:
    """Mean entropy in nats of independent yes-or-no answers, from their logits of any shape."""
    logits = logits.float()
    # H = softplus(x) - x sigmoid(x)
    return (F.softplus(logits) - logits * torch.sigmoid(logits)).mean()


def class_entropy(logits: Tensor, dim: int) -> Tensor:
    """Mean entropy in nats of choices of one class, whose logits lie along `dim`."""
    logs = F.log_softmax(logits.float(), dim)
    return -(logs.exp() * logs).sum(dim).mean()
