"""ONNX Runtime's execution providers: those it was built with, and TensorRT-RTX from a package of its own.

TensorRT-RTX (`pip install onnxruntime-ep-nv-tensorrt-rtx`) brings NVIDIA's libraries along, so that an RTX
GPU needs its driver alone. It is a plug-in: ONNX Runtime loads its library and asks it for devices.
"""
from __future__ import annotations

import importlib
from typing import Any

from ..errors import EngineUnavailable

_BUILT_IN = {
    'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider', 'tensorrt': 'TensorrtExecutionProvider'}
_PLUGIN = 'tensorrt_rtx'
_PLUGIN_MODULE = 'onnxruntime_ep_nv_tensorrt_rtx'
_PLUGIN_PACKAGE = 'onnxruntime-ep-nv-tensorrt-rtx'

PROVIDERS = (*_BUILT_IN, _PLUGIN)
"""Names of the providers, as engines and command lines take them."""


def open_session_on(ort: Any, provider: str, network: str, options: Any) -> Any:
    """A session whose network that provider computes; what it cannot is left to the processor.

    Args:
        ort: ONNX Runtime's module.
        provider: of `PROVIDERS`.
        network: path of the file.
        options: ONNX Runtime's `SessionOptions`.

    Raises:
        EngineUnavailable: the provider is not installed, finds no device, or did not take the session.
        ValueError: an unknown provider, or the file is not a readable network.
    """
    if provider not in PROVIDERS:
        raise ValueError(f'provider: expected one of {PROVIDERS}, found {provider!r}')
    name = _use_plugin(ort, options) if provider == _PLUGIN else _built_in_name(ort, provider)

    try:
        chosen = {} if provider == _PLUGIN else {'providers': [name]}
        session = ort.InferenceSession(network, options, **chosen)
    except Exception as error:
        raise ValueError(
            f'{network}: not a network ONNX Runtime can read: {str(error).splitlines()[0]}'
        ) from error

    # a provider whose libraries are missing is left out with a line in the log, and the processor computes
    if name not in session.get_providers():
        raise EngineUnavailable(
            f'onnxruntime could not start {name} here and took {session.get_providers()}; its libraries '
            '(CUDA, cuDNN, TensorRT) or the driver are missing or of another version'
        )
    return session


def _built_in_name(ort: Any, provider: str) -> str:
    """ONNX Runtime's name of a provider that it was built with."""
    name = _BUILT_IN[provider]
    if name not in ort.get_available_providers():
        raise EngineUnavailable(
            f'onnxruntime has no {name} here (it has {ort.get_available_providers()}); '
            'pip install onnxruntime-gpu'
        )
    return name


def _use_plugin(ort: Any, options: Any) -> str:
    """Let a session run on the first GPU that TensorRT-RTX finds; gives the provider's name."""
    if not hasattr(ort, 'register_execution_provider_library'):
        raise EngineUnavailable(
            f'{_PLUGIN} needs an onnxruntime that loads plug-ins (1.23 or later), found {ort.__version__}'
        )
    try:
        plugin = importlib.import_module(_PLUGIN_MODULE)
    except ImportError as error:
        raise EngineUnavailable(
            f'{_PLUGIN}: {_PLUGIN_PACKAGE} is not installed: pip install {_PLUGIN_PACKAGE} (Linux or Windows '
            'with an NVIDIA RTX GPU)'
        ) from error

    # once a process: a second registration of the same library is an error
    name = plugin.get_ep_name()
    if not any(device.ep_name == name for device in ort.get_ep_devices()):
        try:
            ort.register_execution_provider_library(_PLUGIN, plugin.get_library_path())
        except Exception as error:
            raise EngineUnavailable(
                f'{_PLUGIN}: {_PLUGIN_PACKAGE} is installed, but cannot be loaded: '
                f'{str(error).splitlines()[0]} (libcuda is part of the driver of an NVIDIA GPU)'
            ) from error

    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise EngineUnavailable(f'{_PLUGIN}: {name} finds no NVIDIA RTX GPU here (Ampere or later)')
    options.add_provider_for_devices(devices[:1], {})
    return name
