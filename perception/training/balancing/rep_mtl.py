"""Rep-MTL: two regularisers of the tasks' saliencies at the shared map."""
from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...registry import BALANCERS
from .base import LayeredBalancer, Step, WeightBalancer, build_balancer, check_range, log_by_task
from .gradients import map_gradients


@BALANCERS.register_module()
class RepMTL(LayeredBalancer):
    """Sum of the losses plus two terms of the saliencies S_t = dL_t / dZ, Z the shared map.

    Wang et al. 2025, ICCV, "Rep-MTL". `tsr`: mean over the places of the entropy of the tasks' shares of
    saliency, which keeps the tasks' own patterns. `csa`: InfoNCE over the samples between a sample's affinity
    of channels over all tasks (anchor) and that of each single task (positive), against other samples'
    anchors. It goes backward through backwards: about twice the time, and parts whose gradient cannot be
    differentiated again are refused by torch.

    Args:
        tsr: weight of the first term.
        csa: weight of the second; a batch of one sample has no negatives and leaves it out.
        temperature: of the InfoNCE; the publication does not print it.
        base: a balancer of the losses themselves; None sums.
    """

    least_tasks = 2
    uses_map = True

    def __init__(
        self, tsr: float = 0.9, csa: float = 0.9, temperature: float = 0.1,
        base: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.tsr, self.csa = check_range('RepMTL.tsr', 0, tsr), check_range('RepMTL.csa', 0, csa)
        self.temperature = check_range('RepMTL.temperature', 1e-6, temperature)
        self.base = build_balancer(base or dict(type='FixedWeights'))
        if not isinstance(self.base, WeightBalancer) or getattr(self.base, 'where', 'map') != 'map':
            raise ValueError(
                f'balancer RepMTL.base: expected one that weights the losses, found {self.base.name}')

    def around_forward(self) -> AbstractContextManager[None]:
        """Attention whose backward has a backward, as fused ones have not."""
        return sdpa_kernel(SDPBackend.MATH)

    def train(self, step: Step) -> None:
        """One backward of losses and regularisers."""
        weights = self.base.weights(step)
        log_by_task(step, 'weight', self.tasks, weights)

        saliencies_TP = map_gradients(step.losses, differentiable=True)
        # both terms know no scale; products of tiny numbers would vanish
        largest = saliencies_TP.detach().abs().amax()
        saliencies_TP = saliencies_TP / largest.clamp(min=torch.finfo(largest.dtype).tiny)
        shape = step.losses.shared_map.shape
        saliencies_TBCN = saliencies_TP.view(len(self.tasks), *shape[:2], -1)
        # tasks without labels have none
        active = [number for number, row in enumerate(saliencies_TP) if bool(row.detach().any())]
        total = step.losses.weighted(weights.tolist())
        if len(active) > 1:
            terms = {'tsr': saliency_entropy(saliencies_TBCN[active])}
            if shape[0] > 1:
                terms['csa'] = saliency_contrast(saliencies_TBCN[active], self.temperature)
            step.log |= {name: float(term.detach()) for name, term in terms.items()}
            total = total + sum(getattr(self, name) * term for name, term in terms.items())
        step.backward(total)


def saliency_entropy(saliencies_TBCN: Tensor) -> Tensor:
    """TSR: mean over samples and places of the entropy of |mean_c S_t| over the tasks."""
    size_TBN = saliencies_TBCN.mean(2).abs()
    shares_TBN = size_TBN / size_TBN.sum(0).clamp(min=torch.finfo(size_TBN.dtype).tiny)
    # the slope of x log x is infinite at zero
    return -(shares_TBN * shares_TBN.clamp(min=1e-12).log()).sum(0).mean()


def saliency_contrast(saliencies_TBCN: Tensor, temperature: float) -> Tensor:
    """CSA: InfoNCE of each task's affinity of channels with its sample's anchor, against other samples'."""
    affinity_TBCC = saliencies_TBCN @ saliencies_TBCN.transpose(2, 3)
    affinity_TBD = F.normalize(affinity_TBCC.flatten(2), dim=-1)

    means_BCT = saliencies_TBCN.mean(-1).permute(1, 2, 0)
    anchors_BD = F.normalize((means_BCT @ means_BCT.transpose(1, 2)).flatten(1), dim=-1)
    positive_TB = torch.einsum('bd,tbd->tb', anchors_BD, affinity_TBD) / temperature
    others_BB = anchors_BD @ anchors_BD.T / temperature
    others_BB = others_BB.masked_fill(torch.eye(len(others_BB), dtype=torch.bool, device=others_BB.device),
                                      float('-inf'))

    # of every (sample, task) one positive and the anchors of the other samples
    negatives_B = others_BB.logsumexp(1)
    return (torch.logaddexp(positive_TB, negatives_B.expand_as(positive_TB)) - positive_TB).mean()
