"""What the search for an int8 network is given and what it returns."""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

DropFn = Callable[[Path], float]
"""Network file -> how much worse it is than the float network: a drop of a score, or an error of outputs."""


class Writer(Protocol):
    """Whatever writes a network with some of its layers in int8.

    Attributes:
        network: the float network's file.
        layers: names of the layers that can be quantised, in the order of the graph.
        weight_bits: of the layers in int8, 7 or 8.
    """

    network: Path
    layers: list[str]
    weight_bits: int

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """Write the network with `layers` in int8."""


@dataclass(frozen=True)
class Ranking:
    """In which order layers go to float.

    Attributes:
        sensitivity: {layer: how much int8 hurts there}.
        float_first: layers that go first and together, such as whole heads of the tasks that dropped too
            much.
    """

    sensitivity: dict[str, float]
    float_first: Collection[str] = ()

    def order(self) -> list[str]:
        """The layers: `float_first`, then the most sensitive ones."""
        return sorted(
            self.sensitivity, key=lambda layer: (layer not in self.float_first, -self.sensitivity[layer]))


@dataclass(frozen=True)
class QuantisationReport:
    """A quantised network and how the search got there.

    Attributes:
        path: of the quantised network.
        layers: how many could be quantised.
        float_layers: those that stay in float, the first to go there first.
        drop: of the result.
        drop_all_int8: with every layer in int8.
        sensitivity: of every layer (empty when all layers together were good enough).
        attempts: (layers in float, drop) of each.
        weight_bits: of the layers in int8; 7 for processors on which products with 8 saturate.
    """

    path: Path
    layers: int
    float_layers: tuple[str, ...]
    drop: float
    drop_all_int8: float
    sensitivity: dict[str, float] = field(default_factory=dict)
    attempts: tuple[tuple[int, float], ...] = ()
    weight_bits: int = 8

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the sidecar's keys, which are older than these names."""
        most_sensitive = sorted(self.sensitivity.items(), key=lambda item: -item[1])[:20]
        return {
            'layers': self.layers,
            'kept': list(self.float_layers),
            'loss': self.drop,
            'loss_all': self.drop_all_int8,
            'most_sensitive': dict(most_sensitive),
            'steps': [list(attempt) for attempt in self.attempts],
            'weight_bits': self.weight_bits,
        }

    def summary(self) -> str:
        """One line of text."""
        return (
            f'{self.path}: {self.layers - len(self.float_layers)} of {self.layers} layers in int8, drop '
            f'{self.drop:.4f} (with all of them: {self.drop_all_int8:.4f})'
        )
