"""int8 for OpenVINO by the library NNCF (Kozlov et al. 2020, arXiv:2002.08679).

It places quantisers where OpenVINO's own fusions want them, and corrects biases for the mean error of their
layer. Besides the layers of the ONNX network, NNCF also quantises what lies between them, such as
additions, products and attention. Here it may do so between two layers in int8 alone: elsewhere, inputs,
outputs and what layers in float pass on would lose digits, too.
"""
from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import EngineUnavailable, ExportError
from ..export.parts import move_network, remove_network
from ..onnx_session import Arrays
from ..processor import weight_bits as usable_weight_bits
from .layers import quantisable_layers, read_named

OPERATIONS = (
    'Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'GroupConvolutionBackpropData', 'MatMul')
"""What a layer of `layers.LAYER_KINDS` becomes in OpenVINO, before biases are added and shapes changed."""
_AFTER = ('Add', 'Multiply', 'Reshape', 'Squeeze', 'Unsqueeze', 'Transpose', 'Convert')


def need_nncf() -> Any:
    """Import NNCF.

    Raises:
        EngineUnavailable: it is not installed, and how to get it.
    """
    try:
        import nncf
        import openvino  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable(
            f"int8 by NNCF needs nncf and openvino: pip install 'perception[int8]', or pip install nncf "
            f'({error})'
        ) from error
    return nncf


class NncfWriter:
    """Writes OpenVINO networks (.xml, .bin) with some layers of an ONNX network in int8.

    Args:
        network: the ONNX file.
        samples: graph inputs of some frames; their ranges are the ranges of the network.
        weight_bits: 7 or 8 (default: what this machine's processor can use, `processor.weight_bits`).

    Attributes:
        layers: names of the ONNX nodes, as `Quantiser.layers`.
        operations: the OpenVINO operation of each.

    Raises:
        EngineUnavailable: NNCF is not installed.
        ExportError: no samples, or OpenVINO has no operation for a layer.
    """

    def __init__(
        self, network: str | Path, samples: Iterable[Arrays], weight_bits: int | None = None
    ) -> None:
        need_nncf()
        self.network = Path(network)
        self.samples = list(samples)
        self.weight_bits = weight_bits or usable_weight_bits()
        if not self.samples:
            raise ExportError(
                f'{network}: quantising needs sample frames for the ranges of values, found none'
            )

        model = read_named(network)
        self.layers = quantisable_layers(model)
        outputs = {node.name: node.output[0] for node in model.graph.node}
        self.operations = operations_of(self._read(), {layer: outputs[layer] for layer in self.layers})
        missing = [layer for layer in self.layers if layer not in self.operations]
        if missing or not self.layers:
            raise ExportError(
                f'{network}: expected one of {OPERATIONS} in OpenVINO for every layer, found none for '
                f'{missing or "an empty network"}'
            )

    def _read(self) -> Any:
        import openvino as ov
        return ov.Core().read_model(str(self.network))

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """Write the network with `layers` (of `self.layers`) in int8, under a temporary name, then rename it.

        Raises:
            ValueError: no layer, or one that does not exist, or `path` is not an .xml.
        """
        unknown = sorted(set(layers) - set(self.layers))
        if unknown or not layers or Path(path).suffix != '.xml':
            raise ValueError(
                f'expected an .xml and some of the {len(self.layers)} layers of {self.network}, found '
                f'{Path(path).name} and {unknown or len(layers)}'
            )
        import nncf
        import openvino as ov

        model = self._read()
        names = [port.get_any_name() for port in model.inputs]
        dataset = nncf.Dataset(self.samples, lambda sample: {name: sample[name] for name in names})
        in_float = float_operations(
            model, self.operations.values(), {self.operations[layer] for layer in layers})

        # half of the range of int8 is 7 bits; NNCF itself halves the first layer's at most
        half_range = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        with _silent():
            quantised = nncf.quantize(
                model,
                dataset,
                subset_size=len(self.samples),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                ignored_scope=nncf.IgnoredScope(names=in_float, validate=False),
                advanced_parameters=half_range if self.weight_bits == 7 else None,
            )

        partial = Path(path).with_suffix('.partial.xml')
        try:
            ov.save_model(quantised, str(partial), compress_to_fp16=False)
            return move_network(partial, path)
        finally:
            remove_network(partial)


def operations_of(model: Any, outputs: dict[str, str]) -> dict[str, str]:
    """{layer: name of the operation that computes it}; layers without one are missing.

    Args:
        model: OpenVINO's.
        outputs: {layer: name of its output}.
    """
    ports = {
        name: port
        for operation in model.get_ops()
        for port in operation.outputs()
        for name in port.get_names()
    }

    # breadth first, back from the layer's output tensor
    operations = {}
    for layer, output in outputs.items():
        queue = [ports[output].get_node()] if output in ports else []
        while queue:
            operation = queue.pop(0)
            if operation.get_type_name() in OPERATIONS:
                operations[layer] = operation.get_friendly_name()
                break
            if operation.get_type_name() in _AFTER:
                queue += [value.get_node() for value in operation.input_values()]
    return operations


def float_operations(model: Any, layers: Collection[str], int8_layers: Collection[str]) -> list[str]:
    """Names of the operations that stay in float.

    These are the layers that are not in int8, and every other operation whose nearest layers before it or
    behind it are all in float.

    Args:
        model: OpenVINO's.
        layers: names of the operations that are layers.
        int8_layers: those of them that are in int8.
    """
    layers = set(layers)
    int8_layers = set(int8_layers)
    operations = [(op.get_friendly_name(), op) for op in model.get_ordered_ops()]

    # nearest layers in the direction of the data, and against it
    before: dict[str, set[str]] = {}
    for name, op in operations:
        sources = [port.get_node().get_friendly_name() for port in op.input_values()]
        before[name] = _nearest_layers(sources, layers, before)

    behind: dict[str, set[str]] = {}
    for name, op in reversed(operations):
        users = [
            user.get_node().get_friendly_name() for port in op.outputs() for user in port.get_target_inputs()
        ]
        behind[name] = _nearest_layers(users, layers, behind)

    def in_float(name: str) -> bool:
        if name in layers:
            return name not in int8_layers
        return not (before[name] & int8_layers and behind[name] & int8_layers)

    return [
        name
        for name, op in operations
        if op.get_type_name() not in ('Constant', 'Parameter', 'Result') and in_float(name)
    ]


def _nearest_layers(neighbours: Iterable[str], layers: set[str], known: dict[str, set[str]]) -> set[str]:
    """The neighbours that are layers, and the nearest layers of the others."""
    return set().union(*({name} if name in layers else known.get(name, set()) for name in neighbours))


@contextlib.contextmanager
def _silent() -> Any:
    """Keep the library's progress bars and remarks off the terminal."""
    logger = logging.getLogger('nncf')
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
