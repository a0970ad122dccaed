"""An ONNX network file as a function, computed by ONNX Runtime on this processor."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
InferFn = Callable[[Arrays], Arrays]
OpenFn = Callable[[Path], InferFn]


def open_session(network: str | Path | bytes) -> Any:
    """An ONNX Runtime session of a file, or of a file's content, that logs errors alone."""
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 3
    source = network if isinstance(network, bytes) else str(network)
    return ort.InferenceSession(source, options, providers=['CPUExecutionProvider'])


def run_network(network: Any, inputs: Arrays) -> Arrays:
    """Outputs of a network (file or session) by name; inputs that it does not have are ignored."""
    session = open_session(network) if isinstance(network, (str, Path)) else network
    known = {value.name: inputs[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, known), strict=True))


def open_with_onnxruntime(path: str | Path) -> InferFn:
    """The network of a file: graph inputs -> outputs."""
    session = open_session(path)
    return lambda inputs: run_network(session, inputs)
