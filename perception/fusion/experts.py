"""Feed-forward networks and the mixtures of experts that replace them (M2oE of MetaBEV).

Ge et al., ICCV 2023, arXiv 2304.09801: routed experts (RM2oE) and hard experts (HM2oE), each a drop-in for
the feed-forward part of a decoder layer. A configuration names the kind (`PlainFFN`, `RoutedFFN`, `HardFFN`);
a decoder calls it once per layer with its width. Every network maps `(*, C)` to `(*, C)`.

Tasks are served by the last `task_layers` layers of a decoder, which run once a task: there a routed mixture
has a gate per task over the same experts, and hard experts answer alone. The layers before them are shared.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bev.ops.gather import exporting
from ..core.processes import summed
from ..registry import MODELS


class TwoLayerMLP(nn.Module):
    """Linear, GELU, Dropout, Linear, Dropout."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width),
            nn.Dropout(dropout))

    def forward(self, x: Tensor, task: str | None = None) -> Tensor:
        """`(*, C)` -> `(*, C)`; one network for every task."""
        del task
        return self.layers(x)


class RoutedExperts(nn.Module):
    """RM2oE: each token passes through the `top` experts that its gate prefers.

    `sum over i of R(x)_i E_i(x)`, R a softmax over all. With tasks there is one gate per task over the same
    experts, and each call says which task's.

    Args:
        width: C.
        hidden: of each expert.
        experts: E.
        top: t.
        tasks: names of the gates; empty: one gate for all.
        balance: weight of the load-balance loss; 0 leaves it out.
        renormalise: divide the chosen weights by their sum (the paper's formula does not).
        dropout: after each layer of an expert.

    Raises:
        ValueError: `top` outside 1..E.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        experts: int = 8,
        top: int = 2,
        tasks: Sequence[str] = (),
        balance: float = 0.0,
        renormalise: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= top <= experts:
            raise ValueError(f'RoutedExperts: expected 1 to {experts} experts per token, found top={top}')
        self.tasks = tuple(tasks)
        self.top = top
        self.balance = balance
        self.renormalise = renormalise
        self.dropout = dropout
        self.gates = nn.ModuleList(nn.Linear(width, experts) for _ in self.tasks or ('shared',))

        # all experts in one tensor a layer, so that the dense form is one product
        self.weight_in = nn.Parameter(torch.empty(experts, width, hidden))
        self.weight_out = nn.Parameter(torch.empty(experts, hidden, width))
        self.bias_in = nn.Parameter(torch.zeros(experts, hidden))
        self.bias_out = nn.Parameter(torch.zeros(experts, width))
        for weight in (self.weight_in, self.weight_out):
            bound = 1 / math.sqrt(weight.shape[1])  # as nn.Linear
            nn.init.uniform_(weight, -bound, bound)
        self.register_buffer('chosen_E', torch.zeros(experts), persistent=False)
        self._balance_term: Tensor | None = None

    def forward(self, x: Tensor, task: str | None = None) -> Tensor:
        """`(*, C)` -> `(*, C)`.

        Raises:
            ValueError: a task this network has no gate for, or none where there are gates by task.
        """
        tokens = x.reshape(-1, x.shape[-1])
        weights = self.route(tokens, task)
        sparse = self.training and not exporting()
        mixed = self.sparse(tokens, weights) if sparse else self.dense(tokens, weights)
        return mixed.view(x.shape)

    def route(self, tokens_TC: Tensor, task: str | None = None) -> Tensor:
        """Weight of every expert for every token, `(T, E)` float32, zero where it was not chosen."""
        if self.tasks and task not in self.tasks:
            raise ValueError(f'RoutedExperts: gates exist for {self.tasks}, found the task {task!r}')
        gate = self.gates[self.tasks.index(task) if self.tasks else 0]

        probabilities_TE = gate(tokens_TC).float().softmax(-1)
        weights_TE = self._choose(probabilities_TE)
        if self.training and not exporting():
            self._remember(weights_TE, probabilities_TE)
        return weights_TE

    def _choose(self, probabilities_TE: Tensor) -> Tensor:
        """The `top` largest of each row, the others zero."""
        best, index = probabilities_TE.topk(self.top, -1)
        if self.renormalise:
            best = best / best.sum(-1, keepdim=True)

        # by comparison: no scatter in the exported graph
        experts = torch.arange(probabilities_TE.shape[-1], device=index.device)
        return (best[..., None] * (index[..., None] == experts)).sum(-2)

    def dense(self, tokens_TC: Tensor, weights_TE: Tensor) -> Tensor:
        """Every expert sees every token, the weights choose: plain operators for the exported graph."""
        hidden = F.gelu(torch.matmul(tokens_TC, self.weight_in) + self.bias_in[:, None])  # (E, T, hidden)
        hidden = F.dropout(hidden, self.dropout, self.training)
        out = torch.matmul(hidden, self.weight_out) + self.bias_out[:, None]  # (E, T, C)
        out = F.dropout(out, self.dropout, self.training)
        return (out * weights_TE.T[..., None].to(out.dtype)).sum(0)

    def sparse(self, tokens_TC: Tensor, weights_TE: Tensor) -> Tensor:
        """Each expert sees its own tokens only: t / E of the work, the same numbers.

        The pairs P of an expert and a token that chose it lie expert after expert, so that tokens are
        gathered and added up once.
        """
        chosen_ET = weights_TE.detach().T != 0
        expert_P, token_P = chosen_ET.nonzero().unbind(1)
        pairs_E = torch.bincount(expert_P, minlength=len(chosen_ET)).tolist()
        inputs = tokens_TC.index_select(0, token_P).split(pairs_E)  # one an expert

        parameters = (self.weight_in, self.bias_in, self.weight_out, self.bias_out)
        of_expert = (parameter.unbind() for parameter in parameters)
        out_PC = torch.cat([self._expert(*one) for one in zip(inputs, *of_expert, strict=True)])

        out_PC = out_PC.float() * weights_TE.T[chosen_ET][:, None]
        return out_PC.new_zeros(len(tokens_TC), out_PC.shape[1]).index_add(0, token_P, out_PC)

    def _expert(
        self, x: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor, bias_out: Tensor
    ) -> Tensor:
        """One expert, as `TwoLayerMLP`."""
        hidden = F.dropout(F.gelu(F.linear(x, weight_in.T, bias_in)), self.dropout, self.training)
        return F.dropout(F.linear(hidden, weight_out.T, bias_out), self.dropout, self.training)

    def _remember(self, weights_TE: Tensor, probabilities_TE: Tensor) -> None:
        """Count the choices, and keep the balance term until `extra_losses` asks for it."""
        count_E = (weights_TE > 0).detach().float().sum(0)
        self.chosen_E += count_E
        if not self.balance:
            return

        # choices of all processes, so that their mean is the term of the whole batch; the mean over the gates
        count_E = summed(count_E)
        even = len(count_E) * (count_E / count_E.sum() * probabilities_TE.mean(0)).sum() / len(self.gates)
        self._balance_term = even if self._balance_term is None else self._balance_term + even

    def extra_losses(self) -> dict[str, Tensor]:
        """Load balance of the tokens seen since the last call.

        E * sum over e of (fraction of choices)_e * (mean probability)_e: one where all experts are chosen
        alike, E where one takes all (Fedus et al., 2022, arXiv 2101.03961, equation 4; there for top-1).
        Weighted by `balance`; empty without it or outside training.
        """
        term, self._balance_term = self._balance_term, None
        return {} if term is None else {'load_balance': self.balance * term}

    def usage(self) -> Tensor:
        """Fraction of the choices since the last call that fell on each expert, `(E,)`; zeros before any."""
        fraction = self.chosen_E / self.chosen_E.sum().clamp(min=1)
        self.chosen_E.zero_()
        return fraction


class HardExperts(nn.Module):
    """HM2oE: one expert per task.

    All together: their outputs side by side, Linear(E * C -> C), LayerNorm. One alone where a task is given,
    and where there is but one task.

    Args:
        width: C.
        hidden: of each expert.
        tasks: names of the experts.
        dropout: after each layer of an expert.
        joined: False leaves out what joins them: every call gives a task.

    Raises:
        ValueError: no task.
    """

    def __init__(
        self, width: int, hidden: int, tasks: Sequence[str], dropout: float = 0.0, joined: bool = True
    ) -> None:
        super().__init__()
        if not tasks:
            raise ValueError('HardExperts: expected at least one task, found none')
        self.experts = nn.ModuleDict({task: TwoLayerMLP(width, hidden, dropout) for task in tasks})
        self.joined = joined and len(self.experts) > 1
        if self.joined:
            self.projection = nn.Linear(len(self.experts) * width, width)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, task: str | None = None) -> Tensor:
        """`(*, C)` -> `(*, C)`.

        Raises:
            ValueError: a task that has no expert, or none where nothing joins several experts.
        """
        if task is None and len(self.experts) == 1:
            task, = self.experts
        if task is None and self.joined:
            together = torch.cat([expert(x) for expert in self.experts.values()], -1)
            return self.norm(self.projection(together))
        if task not in self.experts:
            raise ValueError(f'HardExperts: experts exist for {tuple(self.experts)}, found the task {task!r}')
        return self.experts[task](x)


# -------------------------------------------------------------------- kinds, as a configuration names them

class FFNKind(Protocol):
    """Makes the feed-forward part of each layer.

    Attributes:
        tasks: those that it tells apart.
        task_layers: how many of the decoder's last layers run once a task.
    """

    tasks: Sequence[str]
    task_layers: int

    def __call__(self, width: int, by_task: bool = False) -> nn.Module:
        """The network of one layer; `by_task`: of one that runs once a task."""


@MODELS.register_module()
@dataclass(frozen=True)
class PlainFFN:
    """One feed-forward network; hidden width `ratio` times the width."""

    ratio: float = 2.0
    dropout: float = 0.0
    tasks: ClassVar[tuple[str, ...]] = ()
    task_layers: ClassVar[int] = 0

    def __call__(self, width: int, by_task: bool = False) -> nn.Module:
        """The network of one layer."""
        del by_task
        return TwoLayerMLP(width, round(width * self.ratio), self.dropout)


@MODELS.register_module()
@dataclass(frozen=True)
class RoutedFFN:
    """`RoutedExperts`; the paper's best: 8 experts, 2 per token.

    In the layers that run once a task each of `tasks` has a gate of its own.

    Raises:
        ValueError: tasks without layers that run once a task, or such layers without tasks.
    """

    experts: int = 8
    top: int = 2
    tasks: Sequence[str] = ()
    task_layers: int = 0
    balance: float = 0.0
    ratio: float = 2.0
    renormalise: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.tasks) != (self.task_layers > 0):
            raise ValueError(
                'RoutedFFN: expected tasks and task_layers, or neither, found '
                f'tasks={tuple(self.tasks)} and task_layers={self.task_layers}')

    def __call__(self, width: int, by_task: bool = False) -> nn.Module:
        """The network of one layer."""
        return RoutedExperts(
            width, round(width * self.ratio), self.experts, self.top, self.tasks if by_task else (),
            self.balance, self.renormalise, self.dropout)


@MODELS.register_module()
@dataclass(frozen=True)
class HardFFN:
    """`HardExperts`, one per task: joined, but in the layers that run once a task."""

    tasks: Sequence[str]
    task_layers: int = 0
    ratio: float = 2.0
    dropout: float = 0.0

    def __call__(self, width: int, by_task: bool = False) -> nn.Module:
        """The network of one layer."""
        return HardExperts(width, round(width * self.ratio), self.tasks, self.dropout, not by_task)
