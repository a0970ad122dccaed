"""One exported debug network for the whole folder, with weights that make every output depend on every
sensor."""
from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from perception.core.config import read_config
from perception.core.contracts import Batch
from perception.core.protocols import RADARS
from perception.deployment.engines import Engine, open_engine
from perception.deployment.export.graph import TensorSpec, graph_inputs
from perception.deployment.export.network import export_network, plain
from perception.deployment.export.sidecar import Sidecar, config_hash, file_hash
from perception.model import MultiTaskPerception
from perception.registry import MODELS, without_pretrained
from tests.helpers import make_batch

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
IMAGE_HW = (64, 176)


def synthetic(
    seed: int = 0,
    points: int = 2000,
    focal: float = 1.0,
    raised_m: float = 0.0,
    blind: int | None = None,
    lidar: bool = True,
    radar: bool = False,
) -> Batch:
    """One sample; other numbers than the defaults make another rig, an absent camera or no LiDAR."""
    batch = make_batch(1, 6, IMAGE_HW, points, seed)
    K, ego_T_cam = batch.K_BN33.clone(), batch.ego_T_cam_BN44.clone()
    K[..., 0, 0] *= focal
    K[..., 1, 1] *= focal
    ego_T_cam[..., 2, 3] += raised_m
    present = batch.camera_present_BN.clone()
    if blind is not None:
        present[0, blind] = False
    fields = {}
    if radar:
        rng = np.random.default_rng(seed)
        rows = rng.uniform(-40, 40, (60, 8)).astype(np.float32)
        rows[:, 6] = np.abs(rows[:, 6]) / 100
        rows[:, 7] = np.arange(60) % len(RADARS)
        fields = dict(
            radar_points=(torch.from_numpy(rows),),
            radar_present_BR=torch.ones(1, len(RADARS), dtype=torch.bool))
    return replace(batch, K_BN33=K, ego_T_cam_BN44=ego_T_cam, camera_present_BN=present,
                   lidar_present_B=torch.tensor([lidar]), **fields)


@torch.no_grad()
def enliven(model: MultiTaskPerception, batch: Batch) -> MultiTaskPerception:
    """Weights of usual size everywhere (last layers start near zero, which would hide differences) and
    fitting statistics."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_uniform_(parameter, a=1.0)
        else:
            parameter.add_(0.1 * torch.randn_like(parameter))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(model.data_preprocessor({'inputs': batch})['inputs'])
    return model.eval()


def small_model(name: str) -> tuple[MultiTaskPerception, dict]:
    """The model of a configuration file with room for a small cloud, and its plain configuration."""
    config = without_pretrained(plain(read_config(CONFIGS / name).model))
    if (config['encoders'].get('lidar') or {}).get('type', 'VoxelNet') != 'VoxelNet':
        config['encoders']['lidar']['export_sizes'] = {'points': 2500, 'pillars': 2200}
    torch.manual_seed(0)
    return MODELS.build(config), config


@dataclass(frozen=True)
class Exported:
    """An export folder and what it was made from."""

    folder: Path
    model: MultiTaskPerception
    sidecar: Sidecar

    def inputs(self, **changes: object) -> dict[str, np.ndarray]:
        """Graph inputs of `synthetic(**changes)`."""
        return graph_inputs(self.model, synthetic(**changes))


@pytest.fixture(scope='session')
def exported(made_once: Callable[..., Path]) -> Exported:
    """The debug configuration, four tasks, exported once a test run; every worker has the same weights."""
    model, config = small_model('debug.py')
    enliven(model, synthetic())

    def make(folder: Path) -> None:
        export_network(model, synthetic(), folder, config)
        torch.save(model.state_dict(), folder / 'weights_of_tests.pth')

    # the norms' statistics are sums whose last bits differ between processes: all take the first one's
    folder = made_once('debug_export', make)
    model.load_state_dict(torch.load(folder / 'weights_of_tests.pth', weights_only=True))
    return Exported(folder, model, Sidecar.read(folder))


@pytest.fixture(scope='session')
def engines(exported: Exported) -> dict[tuple[str, str], Engine]:
    """Every runtime that needs no GPU, opened once: {(name, precision): engine}."""
    wanted = [
        ('torch', 'fp32'), ('torch', 'bf16'), ('onnxruntime', 'fp32'), ('openvino', 'fp32'),
        ('openvino', 'bf16')]
    return {
        (name, precision): open_engine(
            name, exported.folder, precision, exported.model, **({} if name == 'torch' else {'threads': 1})
        )
        for name, precision in wanted
    }


class Small(nn.Module):
    """Three convolutions; the last one gets inputs of which one channel is a thousand times as large as the
    others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = (
            nn.Conv2d(*sizes, 3, padding=1) for sizes in ((3, 8), (8, 8), (8, 2))
        )
        self.register_buffer('scale', torch.tensor([1000.0] + [1.0] * 7).view(1, 8, 1, 1))
        with torch.no_grad():
            self.last.weight[:, 0] = 0  # the large channel is not even needed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))) * self.scale)


@pytest.fixture(scope='session')
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, np.ndarray]]]:
    """`Small` as an ONNX file, and inputs for it."""
    path = tmp_path_factory.mktemp('small') / 'network.onnx'
    torch.onnx.export(
        Small().eval(), (torch.zeros(1, 3, 8, 12),), str(path), dynamo=True, opset_version=18,
        input_names=['x'], output_names=['y'], verbose=False)
    rng = np.random.default_rng(0)
    return path, [{'x': rng.normal(size=(1, 3, 8, 12)).astype(np.float32)} for _ in range(4)]


def edit_sidecar(folder: Path, change: Callable[[dict], object]) -> Path:
    """Change the content of a sidecar as somebody does who knows that its hash covers it."""
    path = folder / 'sidecar.json'
    content = json.loads(path.read_text())
    change(content)
    content['sidecar_hash'] = config_hash({key: content[key] for key in content if key != 'sidecar_hash'})
    path.write_text(json.dumps(content))
    return path


def sidecar_of_small(network: Path) -> Sidecar:
    """A sidecar that knows the input and the output of `small`."""
    inputs = TensorSpec('x', (1, 3, 8, 12), 'float32')
    outputs = TensorSpec('y', (1, 2, 8, 12), 'float32')
    return Sidecar({}, {}, (inputs,), (outputs,), '0' * 64, '0' * 64, file_hash(network), 18)


def resident_mb() -> float:
    """Memory of this process."""
    with open('/proc/self/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
