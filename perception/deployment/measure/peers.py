"""A whole frame of ours beside a published detector, in turns on one machine.

The peer is mmdet3d's CenterPoint with pillars (Yin et al. 2021, arXiv 2006.11275; its released
configuration), eager, from a sweep in memory to decoded boxes, random weights. It needs OpenMMLab's
environment (`make test-mm`). Ours goes from sensor data in memory to the predictions of all tasks.
"""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import EngineUnavailable

PEER = 'centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d'
_MOUNT_M = 1.84  # of the LiDAR above our ground: the peer takes points in the LiDAR's frame


def peer_call(points_P6: torch.Tensor) -> Callable[[], object]:
    """What predicts one sweep by mmdet3d's CenterPoint.

    Args:
        points_P6: of the sweep, as a `Batch` has them: x, y, z in ego, intensity, beam, time.

    Raises:
        EngineUnavailable: mmdet3d is not installed.
    """
    try:
        import mmdet3d
        from mmdet3d.registry import MODELS
        from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
        from mmdet3d.utils import register_all_modules
    except ImportError as error:
        raise EngineUnavailable(
            'peers: mmdet3d is not installed: `make test-mm` makes the environment .venv-mm that has it; run '
            'this command with its Python'
        ) from error
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    register_all_modules(init_default_scope=False)
    folder = Path(mmdet3d.__file__).parent / '.mim' / 'configs' / 'centerpoint'
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile(str(folder / f'{PEER}.py')).model).eval()

    # x, y, z, intensity, time
    points_P5 = points_P6[:, [0, 1, 2, 3, 5]].clone()
    points_P5[:, 2] -= _MOUNT_M
    sample = Det3DDataSample(metainfo={'box_type_3d': LiDARInstance3DBoxes})
    data = {'inputs': {'points': [points_P5]}, 'data_samples': [sample]}

    @torch.no_grad()
    def call() -> object:
        with DefaultScope.overwrite_default_scope('mmdet3d'):
            return model.test_step(data)

    return call


def time_in_turns(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """Medians of calls that take turns, after one of each that is not counted.

    Returns:
        {name: {'ms': of the clock, 'core_ms': of what all cores worked for it, 'runs': how many}}.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(runs + 1):
        for name, call in calls.items():
            clock_s, worked_s = time.perf_counter(), time.process_time()
            call()
            if turn:
                times[name].append((time.perf_counter() - clock_s, time.process_time() - worked_s))

    return {
        name: {
            'ms': 1000 * statistics.median(clock for clock, _ in pairs),
            'core_ms': 1000 * statistics.median(worked for _, worked in pairs),
            'runs': runs,
        }
        for name, pairs in times.items()
    }


def format_peers(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A line each; ratios are against the last row, the peer."""
    peer = list(rows.values())[-1]
    lines = [f'{"":<28}{"ms":>10}{"faster":>8}{"core ms":>10}{"less":>8}']
    for name, row in rows.items():
        lines.append(
            f'{name:<28}{row["ms"]:>10.1f}{peer["ms"] / row["ms"]:>7.2f}x{row["core_ms"]:>10.1f}'
            f'{peer["core_ms"] / row["core_ms"]:>7.2f}x')
    return '\n'.join(lines)
