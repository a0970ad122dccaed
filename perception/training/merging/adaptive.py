"""AdaMerging: how much of each task vector, learned without labels (Yang et al. 2024, arXiv 2310.02575).

theta_l = theta_0,l + sum_k lambda_k^l tau_k,l; the coefficients go where the heads' predictions on unlabelled
frames are surest: Adam on the sum of their entropies.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .arithmetic import MergeReport, State, check_models, own_heads, unlearned

LEVELS = ('layer', 'task')


@dataclass(frozen=True)
class AdaptiveOptions:
    """How coefficients are learned.

    Args:
        level: 'layer': one for every task and tensor; 'task': one for every task.
        start: of every coefficient.
        lr: of Adam.
        steps: one batch each.

    Raises:
        ValueError: a number out of its range, or an unknown level.
    """

    level: str = 'layer'
    start: float = 0.3
    lr: float = 1e-3
    steps: int = 500

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f'merge: level: expected one of {", ".join(LEVELS)}, found {self.level!r}')
        for name, low, high in (('start', 0, 1), ('lr', 1e-9, 1), ('steps', 1, 10 ** 6)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f'merge: {name}: expected a number from {low} to {high}, found {getattr(self, name)}')


class Coefficients(nn.Module):
    """Merged weights as a function of coefficients from 0 to 1.

    Args:
        start: what all trainings started from.
        models: {task: weights of the model that was trained on it}.
        options: level and start.

    Attributes:
        lambdas_TL: T tasks, L tensors (one column for the level 'task').
        report: what the task vectors look like.

    Raises:
        ValueError: as `merge_models`.
    """

    def __init__(self, start: State, models: Mapping[str, State], options: AdaptiveOptions) -> None:
        super().__init__()
        self.names, self.report = check_models(start, models)
        self.origin = {name: start[name] for name in self.names}
        self.vectors = {
            name: torch.stack([state[name].float() - start[name].float() for state in models.values()])
            for name in self.names}
        self.rest = {**unlearned(start, models), **own_heads(models)}
        columns = len(self.names) if options.level == 'layer' else 1
        self.lambdas_TL = nn.Parameter(torch.full((len(models), columns), float(options.start)))

    def forward(self) -> dict[str, Tensor]:
        """The merged weights, with a gradient in the coefficients."""
        lambdas_TL = self.lambdas_TL.clamp(0, 1).expand(-1, len(self.names))
        merged = {}
        for number, name in enumerate(self.names):
            change = torch.tensordot(lambdas_TL[:, number], self.vectors[name], 1)
            merged[name] = (self.origin[name] + change).to(self.origin[name].dtype)
        return {**self.rest, **merged}


def merge_adaptively(
    start: State,
    models: Mapping[str, State],
    network: nn.Module,
    load: Callable[[], Any],
    options: AdaptiveOptions,
    report: Callable[[int, dict[str, float]], None] = lambda step, entropies: None,
) -> tuple[dict[str, Tensor], MergeReport, Tensor]:
    """Learn the coefficients and merge.

    Args:
        start: what all trainings started from.
        models: {task: weights of the model that was trained on it}.
        network: of the configuration, with exactly these tasks' heads; its own weights do not count.
        load: the next batch, as a loader gives it; labels in it are not looked at.
        options: how.
        report: told of every step's entropies by task, before the step.

    Returns:
        The merged weights, what the task vectors look like, and the coefficients `(T, L)`, from 0 to 1.

    Raises:
        ValueError: as `merge_models`; a network of other tasks or tensors.
        NotImplementedError: a head does not say its entropy.
        FloatingPointError: an entropy is not finite.
    """
    coefficients = Coefficients(start, models, options)
    _check_network(network, coefficients(), models)
    network = network.eval().requires_grad_(False)
    optimiser = torch.optim.Adam([coefficients.lambdas_TL], lr=options.lr)

    for step in range(options.steps):
        inputs = network.data_preprocessor(load())['inputs']
        entropies = task_entropies(network, coefficients(), inputs)
        report(step, {task: float(value.detach()) for task, value in entropies.items()})
        total = torch.stack(list(entropies.values())).sum()
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(f'merge: step {step}: the entropy is not finite')
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        with torch.no_grad():
            coefficients.lambdas_TL.clamp_(0, 1)  # beyond, the gradient is 0 and nothing comes back

    with torch.no_grad():
        return coefficients(), coefficients.report, coefficients.lambdas_TL.detach().clone()


def task_entropies(network: nn.Module, weights: State, inputs: Any) -> dict[str, Tensor]:
    """{task: mean entropy of its predictions} of a network with other weights than its own.

    Args:
        network: in evaluation.
        weights: by its parameters' names.
        inputs: a batch.
    """
    # what is outside the graph rests on no weights, and may copy parts of the network
    prepared = network.prepare(inputs)
    parameters = parameters_of(network, weights)
    raw = functional_call(network, parameters, (prepared,), {'mode': 'tensor'}, strict=False)
    return {
        task: head.entropy({
            name.partition('.')[2]: value for name, value in raw.items() if name.partition('.')[0] == task})
        for task, head in network.heads.items()}


def parameters_of(network: nn.Module, weights: State) -> dict[str, Tensor]:
    """A file's tensors as the network's parameters: `functional_call` knows nothing of hooks of loading.

    A layer whose files hold something else than its parameter has `parameter_of` (`bev.point_linear`).
    """
    parameters = dict(weights)
    for name, layer in network.named_modules():
        turn, weight = getattr(layer, 'parameter_of', None), f'{name}.weight'
        if turn is not None and weight in parameters:
            parameters[weight] = turn(parameters[weight])
    return parameters


def _check_network(network: nn.Module, weights: State, models: Mapping[str, State]) -> None:
    """Raise ValueError unless the weights are those of the network."""
    if set(network.heads) != set(models):
        raise ValueError(
            f'merge: expected a configuration with the heads {", ".join(models)}, found '
            f'{", ".join(network.heads)}')
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [
        f'{name}: weights {found.get(name, "none")}, configuration {expected.get(name, "none")}'
        for name in {**expected, **found}
        if found.get(name) != expected.get(name) and not name.startswith('data_preprocessor.')]
    if wrong:
        raise ValueError(f'merge: {len(wrong)} tensors of another configuration: {"; ".join(wrong[:5])}')
