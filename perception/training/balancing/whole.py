"""Balancers that change the gradient itself, entry by entry: GradDrop, SAM-GS, GCond.

They hold T whole gradients. At the shared map the change goes in on the way of the one backward; in the
shared parameters it is added afterwards, and heads keep the gradient of their own loss either way.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...core.processes import summed
from ...registry import BALANCERS
from .base import Balancer, Step, check_range, warn
from .gradients import (
    BranchGradients,
    map_gramian,
    parameter_gradients,
    parameter_gramian,
    say_memory,
    shared_parameters,
)
from .gramian import PLACES, log_gradients


class WholeBalancer(Balancer):
    """A balancer that merges whole gradients in the shared parameters.

    Tasks whose gradient is zero in a step take no part; with fewer than two, or with a gradient that is not
    finite, the step's gradient stays the plain sum and no state moves.
    """

    least_tasks = 2

    def __init__(self) -> None:
        super().__init__()
        self.parameters: list[nn.Parameter] = []

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Find the shared parameters; their memory is said."""
        super().start(tasks, model)
        self.parameters = list(shared_parameters(model).values())
        say_memory(self.name, self.copies(), self.parameters)

    def copies(self) -> int:
        """How many gradients of the shared parameters are held at once."""
        return len(self.tasks)

    def train(self, step: Step) -> None:
        """Backward of the sum, whose part of the tasks in the shared parameters is then replaced."""
        gradients_TP = parameter_gradients(step.losses, self.parameters)
        merged_P = self.checked(gradients_TP, step)
        step.backward(step.losses.weighted([1.0] * len(self.tasks)))
        if merged_P is not None:
            step.add(self.parameters, merged_P - gradients_TP.sum(0))

    def checked(self, gradients_TP: Tensor, step: Step) -> Tensor | None:
        """`merge` of the tasks that take part; None where the sum stays."""
        gramian_TT = parameter_gramian(gradients_TP)
        log_gradients(step, self.tasks, gramian_TT)
        if not bool(gramian_TT.isfinite().all()):
            warn(f'balancer {self.name}: a gradient is not finite: the plain sum in this step')
            return None

        active_T = (gramian_TT.diagonal() > 0).to(gradients_TP.device)
        return self.merge(gradients_TP, active_T, step) if int(active_T.sum()) > 1 else None

    def merge(self, gradients_TP: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """The gradient of all tasks together `(P,)`, in the place of their sum."""
        raise NotImplementedError


@BALANCERS.register_module()
class GradDrop(WholeBalancer):
    """Entry by entry one sign of gradient is let through, the more probably the purer it is.

    Chen et al. 2020, arXiv 2010.06808, algorithm 1: P = (1 + sum_t g_t / sum_t |g_t|) / 2, U uniform in
    [0, 1]; where P > U positive entries pass, elsewhere negative ones. At the map gradients are multiplied by
    the sign of the map and summed over the samples first, as published; the samples of all processes count.

    Args:
        where: 'map' or 'parameters'.
        leak: {task: share of its gradient that always passes}, 0 for tasks that are not named.
    """

    def __init__(self, where: str = 'map', leak: dict[str, float] | None = None) -> None:
        super().__init__()
        if where not in PLACES:
            raise ValueError(f'balancer GradDrop.where: expected one of {", ".join(PLACES)}, found {where!r}')
        self.where, self.uses_map = where, where == 'map'
        self.leak = {
            task: check_range(f'GradDrop.leak[{task!r}]', 0, share, 1)
            for task, share in (leak or {}).items()}

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Check names; parameters are looked for where they are needed."""
        if self.where == 'parameters':
            super().start(tasks, model)
        else:
            Balancer.start(self, tasks, model)
        self.check_names('leak', list(self.leak))

    def train(self, step: Step) -> None:
        """One backward, in which the map's gradient is replaced."""
        if self.where == 'parameters':
            super().train(step)
            return

        branches = BranchGradients.of(step.losses)
        gradients_TP = branches.rows_TP
        gramian_TT = map_gramian(gradients_TP)
        log_gradients(step, self.tasks, gramian_TT)
        if bool(gramian_TT.isfinite().all()):
            shared = step.losses.shared_map
            change = (self._at_map(gradients_TP, shared, step) - gradients_TP.sum(0)).view_as(shared)
            change = change * (step.losses.scale * step.share)
            shared.register_hook(lambda gradient: gradient + change.to(gradient.dtype))
        step.backward(branches.weighted(step.losses, [1.0] * len(self.tasks)))

    def _at_map(self, gradients_TP: Tensor, shared: Tensor, step: Step) -> Tensor:
        batch = shared.shape[0] if shared.dim() > 1 else 1
        signs_BQ = torch.sign(shared.detach().float()).reshape(batch, -1)
        signs_BQ[signs_BQ == 0] = 1.0
        rows_TBQ = gradients_TP.view(len(gradients_TP), batch, -1)

        signed_TQ = summed((rows_TBQ * signs_BQ).sum(1))
        keep_TQ = self._keep(signed_TQ, step)
        return (keep_TQ[:, None] * rows_TBQ).sum(0).flatten()

    def merge(self, gradients_TP: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """What passes of every task, summed."""
        return (self._keep(gradients_TP, step) * gradients_TP).sum(0)

    def _keep(self, rows_TQ: Tensor, step: Step) -> Tensor:
        """Share of every entry that passes `(T, Q)`."""
        total = rows_TQ.abs().sum(0)
        purity_Q = 0.5 * (1 + rows_TQ.sum(0) / total.clamp(min=torch.finfo(total.dtype).tiny))
        # the same draw on all processes
        draws = torch.Generator().manual_seed(step.losses.place.step)
        uniform_Q = torch.rand(purity_Q.shape, generator=draws).to(purity_Q)

        positive_Q = purity_Q > uniform_Q
        passes_TQ = torch.where(positive_Q, rows_TQ > 0, rows_TQ < 0).to(rows_TQ.dtype)
        leak_T = rows_TQ.new_tensor([self.leak.get(task, 0.0) for task in self.tasks])[:, None]
        return leak_T + (1 - leak_T) * passes_TQ


@BALANCERS.register_module()
class SAMGS(WholeBalancer):
    """Equal lengths while the gradients' lengths differ much, momentum and its spread while they are alike.

    Borsani et al. 2025, "Gradient Similarity Surgery" (its code). s is the mean over pairs of
    2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2). Where s < gamma every gradient gets the mean length; elsewhere each
    entry of each task's is multiplied by |m| / sqrt(v), bias-corrected: m = b1 m + (1 - b1) g of the task's
    gradient, v = b2 v + (1 - b2) (1 - s)^2 + 1e-8. Then the gradients are summed.

    Args:
        gamma: similarity below which lengths are made equal.
        beta1: of m.
        beta2: of v.
    """

    def __init__(self, gamma: float = 0.1, beta1: float = 0.9, beta2: float = 0.99) -> None:
        super().__init__()
        self.gamma = check_range('SAMGS.gamma', 0, gamma, 1)
        self.beta1 = check_range('SAMGS.beta1', 0, beta1, 1 - 1e-9)
        self.beta2 = check_range('SAMGS.beta2', 0, beta2, 1 - 1e-9)

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Begin without momentum."""
        super().start(tasks, model)
        size = sum(parameter.numel() for parameter in self.parameters)
        self.state = {'m': torch.zeros(len(self.tasks), size), 'v': 0.0, 'steps': 0}

    def copies(self) -> int:
        """The momenta beside the tasks' gradients."""
        return 2 * len(self.tasks)

    def merge(self, gradients_TP: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Equalised or modulated sum; momentum moves in both cases."""
        rows_AP = gradients_TP[active_T]
        norms_A = rows_AP.norm(dim=1)
        similarity = magnitude_similarity(norms_A)
        step.log['similarity'] = similarity

        state = self.state
        state['steps'] += 1
        before_TP = state['m'].to(gradients_TP)
        moved_TP = self.beta1 * before_TP + (1 - self.beta1) * gradients_TP
        state['m'] = torch.where(active_T[:, None], moved_TP, before_TP)
        state['v'] = self.beta2 * state['v'] + (1 - self.beta2) * (1 - similarity) ** 2 + 1e-8
        if similarity < self.gamma:
            return (rows_AP / norms_A[:, None]).sum(0) * norms_A.mean()

        m_AP = state['m'][active_T] / (1 - self.beta1 ** state['steps'])
        v = state['v'] / (1 - self.beta2 ** state['steps'])
        return (rows_AP * m_AP.abs()).sum(0) / v ** 0.5


def magnitude_similarity(norms_A: Tensor) -> float:
    """Mean over pairs of 2 a b / (a^2 + b^2): 1 for equal lengths."""
    a, b = torch.triu_indices(len(norms_A), len(norms_A), 1)
    pairs = 2 * norms_A[a] * norms_A[b] / (norms_A[a].square() + norms_A[b].square())
    return float(pairs.mean())


@BALANCERS.register_module()
class GCond(WholeBalancer):
    """The most conflicting pair is arbitrated, up to 2 T times a step; the sum has momentum.

    GCond 2025 (its code, smooth way). While the least cosine of a pair lies below the last of the `zones`:
    the winner has the larger score, 0.8 times stability (cosine with its own arbitrated gradient of the step
    before, at least 0) + 0.2 times strength (norm over its running mean, as a share of the pair's). alpha
    goes from 0 at the last zone to pi / 2 at the middle and pi at the first; the winner gives up sin(alpha)
    of its projection on the loser, the loser sin(min(alpha, pi / 2)) of its own on the winner. The code's
    rule against dominance is kept: who has won the last `window` arbitrations loses (its description says the
    contrary).

    Args:
        zones: cosines of critical, strong and weak conflict, rising.
        momentum: of the merged gradient, beside the optimiser's; 0 for none.
        decay: of the running norms, which begin at 1.
        window: wins in a row that make a task lose; 0 for no such rule.
    """

    def __init__(
        self, zones: Sequence[float] = (-0.8, -0.5, 0.0), momentum: float = 0.85, decay: float = 0.95,
        window: int = 3,
    ) -> None:
        super().__init__()
        self.zones = tuple(float(zone) for zone in zones)
        if len(self.zones) != 3 or not -1 <= self.zones[0] < self.zones[1] < self.zones[2] <= 1:
            raise ValueError(
                f'balancer GCond.zones: expected three rising cosines from -1 to 1, found {tuple(zones)}')
        self.momentum = check_range('GCond.momentum', 0, momentum, 1 - 1e-9)
        self.decay = check_range('GCond.decay', 0, decay, 1)
        self.window = int(check_range('GCond.window', 0, window))

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Begin without history."""
        super().start(tasks, model)
        size = sum(parameter.numel() for parameter in self.parameters)
        self.state = {
            'before': torch.zeros(len(self.tasks), size), 'merged': torch.zeros(size),
            'norms': torch.ones(len(self.tasks)), 'steps': 0, 'winners': []}

    def copies(self) -> int:
        """Two of every task, now and before, and the merged one."""
        return 2 * len(self.tasks) + 1

    def merge(self, gradients_TP: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """The arbitrated gradients, summed, with momentum."""
        state = self.state
        norms_T = state['norms'].to(gradients_TP)
        moved_T = self.decay * norms_T + (1 - self.decay) * gradients_TP.norm(dim=1)
        state['norms'] = torch.where(active_T, moved_T, norms_T)
        state['before'] = state['before'].to(gradients_TP)

        arbitrated_TP = self.arbitrate(gradients_TP.clone())
        state['before'] = torch.where(active_T[:, None], arbitrated_TP, state['before'])

        state['steps'] += 1
        old_P = state['merged'].to(gradients_TP)
        state['merged'] = self.momentum * old_P + (1 - self.momentum) * arbitrated_TP.sum(0)
        return state['merged'] / (1 - self.momentum ** state['steps'])

    def arbitrate(self, rows_TP: Tensor) -> Tensor:
        """Take the most conflicting pair until none is left, or 2 T times; `rows_TP` changes in place."""
        for _ in range(2 * len(rows_TP)):
            pair, cosine = most_conflicting(rows_TP)
            if cosine >= self.zones[2] - 1e-6:  # what rounding leaves of a projection is no conflict
                break
            winner, loser = self.winner_first(rows_TP, pair)
            self.state['winners'] = [*self.state['winners'], winner][-max(self.window, 1):]
            rows_TP[[winner, loser]] = torch.stack(
                yielded(rows_TP[winner], rows_TP[loser], self.angle(cosine)))
        return rows_TP

    def winner_first(self, rows_TP: Tensor, pair: tuple[int, int]) -> tuple[int, int]:
        """Winner and loser of a pair."""
        first, second = pair
        last = self.state['winners']
        if self.window and len(last) == self.window and len(set(last)) == 1 and last[0] in pair:
            return (second, first) if last[0] == first else (first, second)

        rows_2P = rows_TP[[first, second]]
        before_2P, norms_2 = (self.state[name][[first, second]].to(rows_2P) for name in ('before', 'norms'))
        stability_2 = torch.cosine_similarity(rows_2P, before_2P, dim=1).clamp(min=0)
        scaled_2 = rows_2P.norm(dim=1) / norms_2.clamp(min=1e-12)
        score_2 = 0.8 * stability_2 + 0.2 * scaled_2 / scaled_2.sum()
        return (second, first) if score_2[1] > score_2[0] else (first, second)

    def angle(self, cosine: float) -> float:
        """alpha: 0 at the edge of no conflict, pi / 2 at the strong zone, pi from the critical one."""
        critical, strong, weak = self.zones
        if cosine <= critical:
            return torch.pi
        if cosine <= strong:
            return torch.pi * (0.5 + 0.5 * (strong - cosine) / (strong - critical))
        return torch.pi * 0.5 * (weak - cosine) / (weak - strong)


def most_conflicting(rows_TP: Tensor) -> tuple[tuple[int, int], float]:
    """The pair of rows with the least cosine, and its cosine; rows of zero conflict with none."""
    units_TP = torch.nn.functional.normalize(rows_TP, dim=1)
    angles_TT = (units_TP @ units_TP.T).double()
    pairs = [(i, j) for i in range(len(rows_TP)) for j in range(i + 1, len(rows_TP))]
    pair = min(pairs, key=lambda pair: float(angles_TT[pair]))
    return pair, float(angles_TT[pair])


def yielded(winner_P: Tensor, loser_P: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Winner and loser after each has given up its share of the projection on the other."""
    dot = winner_P @ loser_P
    sine = float(torch.sin(torch.tensor(alpha)))
    most = float(torch.sin(torch.tensor(min(alpha, torch.pi / 2))))
    tiny = torch.finfo(winner_P.dtype).tiny
    return (
        winner_P - sine * dot / loser_P.square().sum().clamp(min=tiny) * loser_P,
        loser_P - most * dot / winner_P.square().sum().clamp(min=tiny) * winner_P)
