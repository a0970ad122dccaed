"""A linear layer over features of very different sizes, which all learn at one pace."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PointLinear(nn.Linear):
    """A linear layer without bias that learns in units of its features; files hold its plain weight.

    A point says where it is in tens of metres and how far it lies from its pillar's mean in centimetres.
    Behind a layer that treats both alike the batch norm divides by the former, and the latter count for
    nothing until their weights have grown a hundredfold. So the parameter is the weight times the unit, and
    drawn as such. `state_dict` has the weight for features as they come, with units and without: weights
    learned in one form go on in the other.

    Args:
        in_features: F.
        out_features: C.
        units: of each feature, how much of it counts as one; powers of two, by which nothing is rounded. None
            takes all features as they come.

    Raises:
        ValueError: another number of units than features, or one that is no power of two.
    """

    def __init__(self, in_features: int, out_features: int, units: Sequence[float] | None = None) -> None:
        super().__init__(in_features, out_features, bias=False)
        units = [1.0] * in_features if units is None else [float(unit) for unit in units]
        if len(units) != in_features:
            raise ValueError(f'units: expected one of each of {in_features} features, found {len(units)}')
        wrong = [unit for unit in units if not 0 < unit < math.inf or math.frexp(unit)[0] != 0.5]
        if wrong:
            raise ValueError(f'units: expected powers of two, found {", ".join(f"{u:g}" for u in wrong)}')
        self.register_buffer('units_F', torch.tensor(units), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        """Features `(P, F)` as they come -> `(P, C)`."""
        return F.linear(points, self.weight / self.units_F)

    def parameter_of(self, weight: Tensor) -> Tensor:
        """The parameter `(C, F)` of a file's weight, differentiable."""
        return weight * self.units_F.to(weight.device)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + 'weight'] = destination[prefix + 'weight'] / self.units_F

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        name = prefix + 'weight'
        weight = state_dict.get(name)
        if isinstance(weight, Tensor) and weight.shape == self.weight.shape:
            state_dict = {**state_dict, name: self.parameter_of(weight)}
        super()._load_from_state_dict(state_dict, prefix, *rest)

