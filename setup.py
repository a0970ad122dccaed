"""Package `perception`.

The extras say what each part of the work needs; `requirements.lock` pins the default set-up.
"""
from pathlib import Path

from setuptools import find_packages, setup

CORE = [
    'torch>=2.4', 'numpy>=1.26', 'mmengine>=0.10.7', 'opencv-python-headless>=4.9', 'numba>=0.60',
    'scipy>=1.11', 'tqdm>=4.66']
DATA = ['nuscenes-devkit==1.2.0', 'numpy<2', 'shapely>=2.0,<2.1', 'opencv-python-headless==4.11.0.86']
ENGINES = ['onnx>=1.17', 'onnxscript>=0.3', 'onnxruntime>=1.19', 'openvino>=2025.0']
DRAWING = ['matplotlib>=3.8', 'pillow>=10']

setup(
    name='perception',
    version='0.1.0',
    description='Cameras, LiDAR and radars to boxes, map, occupancy and lanes by one bird\'s-eye-view model',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['perception', 'perception.*']),
    package_data={
        'perception': [
            'core/splits/*.txt', 'core/rig/*.json', 'world/traffic/*.json', 'deployment/export/*.csv',
            'visualization/pages/static/*']
    },
    entry_points={'console_scripts': ['perception = perception.cli.commands:main']},
    install_requires=CORE + DATA + ENGINES + DRAWING + ['tensorboard>=2.15'],
    extras_require={
        # mmcv must be compiled against the installed torch: `make test-mm` shows how (no build isolation,
        # setuptools < 81, ninja)
        'mm': ['mmcv==2.1.0', 'mmdet==3.2.0', 'mmdet3d==1.4.0'],
        'sparse': ['spconv==2.3.8'],
        # weights from the tasks' gradients; cvxpy and clarabel for CAGrad alone
        'balance': [
            'torchjd>=0.18,<0.19', 'quadprog>=0.1.9,!=0.1.10', 'qpsolvers>=1.0.1', 'cvxpy>=1.3', 'clarabel'],
        'tensorrt': ['tensorrt>=8.6'],
        'int8': ['nncf>=3.0'],  # OpenVINO networks in int8; brings no torch
        'rerun': ['rerun-sdk>=0.20'],
        'bags': ['rosbags>=0.11,<0.12', 'mcap>=1.2,<2'],  # recordings of ROS 1 and 2; no ROS needed
        'viewer': ['trimesh>=4.8,<6'],  # for three.js, which its wheel brings; needs numpy alone
        'dev': ['pytest>=8', 'pytest-xdist>=3.5', 'ruff>=0.6'],
    },
)
