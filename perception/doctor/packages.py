"""Is the software there, and does it load: Python, the packages of the default set-up, the extras."""
from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from typing import NamedTuple

from .finding import Finding

PYTHON_RANGE = ((3, 10), (3, 12))
AREA = 'software'


class Package(NamedTuple):
    """One package: what is imported, what is installed, what for, and how."""

    module: str
    distribution: str
    required: bool
    purpose: str
    next_step: str


PACKAGES = (
    Package(
        'numpy', 'numpy', True, 'arrays', 'make test (makes .venv with everything), or: pip install -e .'
    ),
    Package(
        'torch', 'torch', True, 'the model', 'pip install torch (for GPUs: the build of your CUDA version)'
    ),
    Package(
        'mmengine', 'mmengine', True, 'training loop, configurations, registries',
        'pip install mmengine==0.10.7'),
    Package(
        'cv2', 'opencv-python-headless', True, 'images and rasters',
        'pip install opencv-python-headless==4.11.0.86'),
    Package('numba', 'numba', True, 'fast loops on the CPU', 'pip install numba'),
    Package('scipy', 'scipy', True, 'matching', 'pip install scipy'),
    Package(
        'nuscenes', 'nuscenes-devkit', False, 'create_data and the official metrics',
        'pip install nuscenes-devkit==1.2.0'),
    Package('shapely', 'shapely', False, 'map layers', 'pip install "shapely>=2,<2.1"'),
    Package('onnx', 'onnx', False, 'export', 'pip install onnx'),
    Package('onnxscript', 'onnxscript', False, 'export', 'pip install onnxscript'),
    Package('onnxruntime', 'onnxruntime', False, 'engine: ONNX Runtime', 'pip install onnxruntime'),
    Package(
        'openvino', 'openvino', False, 'engine: OpenVINO, the fast one on CPUs', 'pip install openvino'
    ),
    Package('matplotlib', 'matplotlib', False, 'drawing', 'pip install matplotlib'),
)
EXTRAS = (
    Package(
        'mmcv', 'mmcv', False, '[mm] compiled operators',
        'make test-mm builds it in .venv-mm (13 minutes, once)'),
    Package(
        'mmdet3d', 'mmdet3d', False, '[mm] backbones, necks and heads of OpenMMLab',
        'make test-mm builds it in .venv-mm'),
    Package(
        'spconv', 'spconv', False, '[sparse] sparse convolution for the LiDAR',
        'pip install -e ".[sparse]"'),
    Package(
        'torchjd', 'torchjd', False, '[balance] balancing tasks by their gradients',
        'pip install -e ".[balance]"'),
    Package(
        'tensorrt', 'tensorrt', False, '[tensorrt] engine: TensorRT, needs an NVIDIA GPU',
        'pip install -e ".[tensorrt]"'),
    Package('rosbags', 'rosbags', False, '[bags] recordings: ROS bags', 'pip install -e ".[bags]"'),
    Package('mcap', 'mcap', False, '[bags] recordings: MCAP', 'pip install -e ".[bags]"'),
    Package('rerun', 'rerun-sdk', False, '[rerun] tools/visualize.py --rerun', 'pip install -e ".[rerun]"'),
    Package(
        'trimesh', 'trimesh', False, '[viewer] tools/visualize.py --viewer', 'pip install -e ".[viewer]"'),
)


def check_software() -> list[Finding]:
    """Python, the packages of the default set-up, the extras."""
    return [check_python(), *(check_package(package) for package in (*PACKAGES, *EXTRAS))]


def check_python(version: tuple[int, int] | None = None) -> Finding:
    """The interpreter's version against the supported range."""
    version = version or sys.version_info[:2]
    low, high = ('.'.join(map(str, bound)) for bound in PYTHON_RANGE)
    fits = PYTHON_RANGE[0] <= tuple(version) <= PYTHON_RANGE[1]
    step = '' if fits else f'use Python {low} to {high}: make test PYTHON=python{high}'
    return Finding(
        AREA, 'python', 'ok' if fits else 'broken', '.'.join(map(str, version)), step, required=True
    )


def check_package(package: Package) -> Finding:
    """Whether a package is installed and loads."""
    name, required, step = package.distribution, package.required, package.next_step
    if importlib.util.find_spec(package.module) is None:
        return Finding(AREA, name, 'absent', f'for {package.purpose}', step, required)

    try:
        loaded = importlib.import_module(package.module)
    except Exception as error:  # a package can fail to load in any way
        detail = f'does not load: {type(error).__name__}: {str(error)[:160]}'
        return Finding(AREA, name, 'broken', detail, step, required)
    return Finding(AREA, name, 'ok', f'{_version(name, loaded)}, for {package.purpose}', '', required)


def _version(distribution: str, module: object) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(module, '__version__', 'unknown version'))
