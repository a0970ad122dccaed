"""Small labels and proofs that every head's tests use."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, BoxLabels, MapLayers
from perception.core.grid import BEVGrid
from perception.heads.base import TaskHead
from tests.export_check import export, open_session


@pytest.fixture(scope='session')
def trunk_grid() -> BEVGrid:
    """32 x 32 cells of 1.6 m: small, and not the grid of any task."""
    return BEVGrid((-25.6, 25.6), (-25.6, 25.6), 1.6)


@pytest.fixture(scope='session')
def make_boxes() -> Callable[..., BoxLabels]:
    """boxes (list of nine numbers), labels, attributes -> BoxLabels with five LiDAR points in each."""
    def make(boxes: list, labels: list, attributes: list | None = None) -> BoxLabels:
        m = len(labels)
        return BoxLabels(
            np.array(boxes, dtype=np.float32).reshape(m, 9), np.array(labels, dtype=np.int64),
            np.array(attributes if attributes else [-1] * m, dtype=np.int64), np.full(m, 5), np.zeros(m, int),
            np.full(m, 4))
    return make


@pytest.fixture(scope='session')
def boxed(make_boxes: Callable[..., BoxLabels]) -> Annotations:
    """Three boxes: a driving car, a standing pedestrian, a cone whose velocity is unknown."""
    return Annotations('boxed', boxes=make_boxes(
        [[10.3, -4.2, 0.9, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0], [-7.7, 12.1, 0.8, 0.7, 0.6, 1.8, -2.9, 0.0, 0.1],
         [3.0, 3.0, 0.4, 0.4, 0.4, 0.8, 1.5, np.nan, np.nan]], [0, 5, 8], [5, 2, -1]))


@pytest.fixture(scope='session')
def mapped() -> Annotations:
    """A road with a hole in it, a crossing and a divider."""
    road = np.array([[-20.0, -6.0], [20.0, -6.0], [20.0, 6.0], [-20.0, 6.0]])
    hole = np.array([[-4.0, -2.0], [4.0, -2.0], [4.0, 2.0], [-4.0, 2.0]])
    crossing = np.array([[10.0, -6.0], [13.0, -6.0], [13.0, 6.0], [10.0, 6.0]])
    return Annotations('mapped', map_layers=MapLayers(
        {'drivable_area': ((road, (hole,)),), 'ped_crossing': ((crossing, ()),)},
        {'divider': (np.array([[-20.0, 4.0], [20.0, 4.0]]),)}, 60.0))


@pytest.fixture(scope='session')
def overfit() -> Callable[..., list[float]]:
    """Train a head and a free BEV map on one batch; gives the summed loss before every step and after the
    last."""

    def run(
        head: TaskHead, bev_BCYX: torch.Tensor, targets: object, steps: int, rate: float = 5e-3
    ) -> list[float]:
        head.train()
        bev = torch.nn.Parameter(bev_BCYX.clone())
        optimiser = torch.optim.Adam([*head.parameters(), bev], lr=rate)
        losses = []
        for _ in range(steps):
            total = sum(head.loss(head(bev), targets).values())
            losses.append(total.item())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
        return [*losses, sum(head.loss(head(bev), targets).values()).item()]
    return run


@pytest.fixture(scope='session')
def names_without_gradient() -> Callable[..., list[str]]:
    """Names of the head's parameters that one backward pass leaves without any gradient, or with zeros
    alone."""
    def run(head: TaskHead, bev_BCYX: torch.Tensor, targets: object, zeros_count: bool = False) -> list[str]:
        head.train().zero_grad(set_to_none=True)
        sum(head.loss(head(bev_BCYX), targets).values()).backward()
        return [
            name
            for name, p in head.named_parameters()
            if p.grad is None or not torch.isfinite(p.grad).all() or (not zeros_count and not p.grad.any())
        ]

    return run


@pytest.fixture(scope='session')
def assert_exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Export a head to ONNX, run it in ONNX Runtime, compare every output; gives the names of the operators
    used."""
    def run(head: TaskHead, bev_BCYX: torch.Tensor) -> list[str]:
        import onnx
        path = tmp_path_factory.mktemp('onnx') / f'{head.task}.onnx'
        answers = export(head, {'bev': bev_BCYX}, path)
        found = open_session(path).run(None, {'bev': bev_BCYX.numpy()})
        with torch.no_grad():
            expected = head(bev_BCYX)
        assert len(found) == len(expected) == len(answers)
        for (name, tensor), value in zip(expected.items(), found, strict=True):
            np.testing.assert_allclose(value, tensor.numpy(), atol=2e-4, rtol=2e-3, err_msg=name)
        return sorted({node.op_type for node in onnx.load(str(path)).graph.node})
    return run
