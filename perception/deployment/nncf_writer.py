"""int8 for OpenVINO by the library NNCF (Kozlov et al. 2020, arXiv:2002.08679): quantisers where OpenVINO's own fusions want
them, and biases corrected for the mean error of their layer.

Beside the layers of the ONNX network, NNCF also quantises the additions and products between them; where all layers of a task's
head stay in float, these do, too.
"""
from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from .errors import EngineUnavailable, ExportError
from .network_parts import move_network, remove_network
from .quantise import Inputs, layers_by_task, layers_of, named_model

OPERATIONS = ('Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'GroupConvolutionBackpropData', 'MatMul')
"""What a layer of `quantise.LAYER_KINDS` becomes in OpenVINO, before additions of biases and changes of shape."""
_AFTER = ('Add', 'Multiply', 'Reshape', 'Squeeze', 'Unsqueeze', 'Transpose', 'Convert')


def need_nncf() -> Any:
    """The library.

    Raises:
        EngineUnavailable: it is not installed, and how to get it.
    """
    try:
        import nncf
        import openvino  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable(f"int8 by NNCF needs nncf and openvino: pip install 'perception[int8]', or pip install nncf "
                                f'({error})') from error
    return nncf


class NncfWriter:
    """Writes OpenVINO networks (.xml, .bin) with some layers of an ONNX network in int8.

    Args:
        network: the ONNX file. samples: graph inputs of some frames; their ranges are the ranges of the network.

    Attributes:
        layers: names of the ONNX nodes, as `Quantiser.layers`. operations: the OpenVINO operation of each.

    Raises:
        EngineUnavailable: NNCF is not installed. ExportError: no samples, or OpenVINO has no operation for a layer.
    """

    def __init__(self, network: str | Path, samples: Iterable[Inputs]) -> None:
        need_nncf()
        self.network, self.samples = Path(network), list(samples)
        if not self.samples:
            raise ExportError(f'{network}: quantising needs sample frames for the ranges of values, found none')
        model = named_model(network)
        self.layers, self.heads = layers_of(model), layers_by_task(model)
        self.answers = [value.name for value in model.graph.output]
        outputs = {node.name: node.output[0] for node in model.graph.node}
        self.operations = operations_of(self._read(), {layer: outputs[layer] for layer in self.layers})
        missing = [layer for layer in self.layers if layer not in self.operations]
        if missing or not self.layers:
            raise ExportError(f'{network}: expected one of {OPERATIONS} in OpenVINO for every layer, found none for '
                              f'{missing or "an empty network"}')

    def _read(self) -> Any:
        import openvino as ov
        return ov.Core().read_model(str(self.network))

    def write(self, path: str | Path, layers: Sequence[str]) -> Path:
        """The network with `layers` (of `self.layers`) in int8, under a temporary name, then renamed; the others stay in float.

        Raises:
            ValueError: no layer, or one that does not exist, or `path` is not an .xml.
        """
        unknown = sorted(set(layers) - set(self.layers))
        if unknown or not layers or Path(path).suffix != '.xml':
            raise ValueError(f'expected an .xml and some of the {len(self.layers)} layers of {self.network}, found '
                             f'{Path(path).name} and {unknown or len(layers)}')
        import nncf
        import openvino as ov
        model = self._read()
        names = [port.get_any_name() for port in model.inputs]
        ignored = {self.operations[layer] for layer in self.layers if layer not in set(layers)}
        own = operations_by_task(model, self.answers)
        ignored |= {name for task, head in self.heads.items() if not set(head) & set(layers) for name in own.get(task, ())}
        with _silent():
            quantised = nncf.quantize(
                model, nncf.Dataset(self.samples, lambda sample: {name: sample[name] for name in names}),
                subset_size=len(self.samples), preset=nncf.QuantizationPreset.MIXED, target_device=nncf.TargetDevice.CPU,
                ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False))
        partial = Path(path).with_suffix('.partial.xml')
        try:
            ov.save_model(quantised, str(partial), compress_to_fp16=False)
            return move_network(partial, path)
        finally:
            remove_network(partial)


def operations_of(model: Any, outputs: dict[str, str]) -> dict[str, str]:
    """{layer: name of the operation that computes it}, found by going back from the layer's output tensor.

    Args:
        model: OpenVINO's. outputs: {layer: name of its output}.
    """
    ports = {name: port for operation in model.get_ops() for port in operation.outputs() for name in port.get_names()}
    found = {}
    for layer, output in outputs.items():
        waiting = [ports[output].get_node()] if output in ports else []
        while waiting:
            operation = waiting.pop(0)
            if operation.get_type_name() in OPERATIONS:
                found[layer] = operation.get_friendly_name()
                break
            if operation.get_type_name() in _AFTER:
                waiting += [value.get_node() for value in operation.input_values()]
    return found


def operations_by_task(model: Any, answers: Collection[str]) -> dict[str, list[str]]:
    """{task: names of the operations from which outputs of that task (`task.name`) alone are reached}; no constants.

    Args:
        model: OpenVINO's. answers: names of the network's outputs.
    """
    reached: dict[str, set[str]] = {}
    found: dict[str, list[str]] = {}
    for operation in reversed(model.get_ordered_ops()):
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        if kind == 'Result':
            names = operation.input(0).get_source_output().get_names()
            reached[name] = {output.split('.')[0] for output in names & set(answers)}
            continue
        reached[name] = set().union(*(reached[user.get_node().get_friendly_name()]
                                      for port in operation.outputs() for user in port.get_target_inputs()))
        if len(reached[name]) == 1 and kind not in ('Constant', 'Parameter'):
            found.setdefault(*reached[name], []).append(name)
    return found


@contextlib.contextmanager
def _silent() -> Any:
    """Without the library's progress bars and remarks."""
    logger = logging.getLogger('nncf')
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
