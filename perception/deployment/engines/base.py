"""The interface of every runtime: infer(inputs) -> raw outputs."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from ..export.fields import check_specs
from ..export.graph import TensorSpec, check_inputs
from ..export.measured import PRECISION_NAMES as PRECISIONS


class Engine(ABC):
    """A network that is ready to run.

    Args:
        inputs, outputs: specs of the graph.
        precision: of `PRECISIONS`.
        dropped: inputs that the exporter dropped because nothing reads them.

    Attributes:
        name: of the runtime.
        precision: of `PRECISIONS`.
        inputs, outputs: specs of the graph.
    """

    name: str

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: str,
        dropped: Sequence[str] = (),
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f'precision: expected one of {PRECISIONS}, found {precision!r}')
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.precision = precision
        self.dropped = frozenset(dropped)

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named inputs -> named raw outputs; floating outputs are float32 whatever the engine computes in.

        Inputs that the exporter dropped may be given and are ignored.

        Raises:
            EngineInputError: an input is missing, unknown, of another shape or type, or not finite.
        """
        known = {name: value for name, value in inputs.items() if name not in self.dropped}
        return self._run(check_inputs(self.inputs, known))

    def check_network(self, source: str, inputs: Mapping[str, tuple], outputs: Mapping[str, tuple]) -> None:
        """Compare the tensors of the opened network with the specs.

        Args:
            source: of the network, for the message.
            inputs: {name: (shape, numpy's name of the type or None)}.
            outputs: the same.

        Raises:
            ValueError: another name, shape or type; names it.
        """
        check_specs(f'{source}: inputs', inputs, {spec.name: spec for spec in self.inputs})
        check_specs(f'{source}: outputs', outputs, {spec.name: spec for spec in self.outputs})

    @abstractmethod
    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the checked inputs."""
