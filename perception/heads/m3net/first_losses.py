"""Losses of the first heatmap and the first map, which place the queries."""
from __future__ import annotations

from torch import Tensor

from ...core.processes import shared_count
from ..losses import gaussian_focal_loss, sigmoid_focal_loss


def first_heatmap_loss(
    logits_BKYX: Tensor, heatmap_BKYX: Tensor, labelled_B: Tensor, weights_BKYX: Tensor | None = None
) -> Tensor:
    """Gaussian focal loss per object of all processes over the labelled samples.

    Classes in the order of the labels, whatever the groups of the head. Cells and objects count by weights
    where there are any.

    Raises:
        ValueError: logits and heatmap have different cells.
    """
    if logits_BKYX.shape != heatmap_BKYX.shape:
        raise ValueError(
            f'M3NetBridge: the detection head works on {tuple(heatmap_BKYX.shape[1:])} (classes, rows, '
            f'columns), the bridge on {tuple(logits_BKYX.shape[1:])}; expected a head with upsample=1 on the '
            'same grid'
        )
    cells = gaussian_focal_loss(logits_BKYX, heatmap_BKYX) * labelled_B[:, None, None, None]
    is_object = heatmap_BKYX == 1
    if weights_BKYX is None:
        return cells.sum() / shared_count(is_object.sum())
    return (cells * weights_BKYX).sum() / shared_count((is_object * weights_BKYX).sum())


def first_focal_loss(
    logits_B6YX: Tensor, masks_B6YX: Tensor, labelled_B: Tensor, weights_B6YX: Tensor | None = None
) -> Tensor:
    """Sigmoid focal loss, mean over the cells of all processes' labelled samples, summed over the classes.

    With weights of cells it is their weighted mean, the classes' weights together.
    """
    cells_B6YX = sigmoid_focal_loss(logits_B6YX, masks_B6YX)
    if weights_B6YX is None:
        counted = labelled_B.sum()
    else:
        cells_B6YX = cells_B6YX * weights_B6YX
        counted = (weights_B6YX.mean((1, 2, 3)) * labelled_B).sum()
    return (cells_B6YX.mean((2, 3)) * labelled_B[:, None]).sum() / shared_count(counted)
