"""The systems' own parts on two processes: gradients and losses are those of one process with both samples.

Fusers, bridges and experts with the shipped losses, sensors that are dropped, and gradients accumulated over
two batches. Norms stand still where the samples differ; where both processes see the same sample they move,
as shipped. The losses that are ratios of sums (Lovasz, affinity) belong to one process and are off.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from torch import nn

from perception.core.contracts import Annotations, Batch, BoxLabels, MapLayers, OccupancyLabels
from perception.core.grid import BEVGrid
from perception.fusion.concat import ConcatFuser
from perception.fusion.experts import HardFFN, RoutedFFN
from perception.fusion.mafi import MAFI
from perception.fusion.meta_bev import MetaBEV
from perception.fusion.trunk import Trunk
from perception.heads.bridge import CrossTaskBridge
from perception.heads.detection import CenterHead, QueryBoxHead
from perception.heads.m3net import M3NetBridge
from perception.heads.map_segmentation import MapSegmentationHead, QueryMapHead
from perception.heads.occupancy import OccupancyHead, QueryOccupancyHead
from perception.model import MultiTaskPerception
from perception.preprocessor import BatchPreprocessor
from perception.training.optim import GuardedOptimWrapper
from tests.helpers import GRID, GROUND, make_batch, make_camera, make_lidar
from tests.ranks import run_ranks

TASKS = ('detection', 'map_segmentation', 'occupancy')
VOXELS = BEVGrid(**GROUND, cell_m=1.6, z_range_m=(-1.0, 5.4), height_cell_m=1.6)
COARSE = replace(VOXELS, cell_m=3.2, height_cell_m=3.2)
WIDTH = 16
SENSORS = {'camera': 12, 'lidar': 12}
DECODER = dict(layers=1, heads=4, points=2, feedforward=16, states=4)
QUERIES = dict(detection=8, map_strips=4, occupancy_stride=4)
META = dict(width=WIDTH, heads=4, points=2, cross_layers=2, self_layers=1, query_stride=2)
DIFFERENT = ('m3net_transformer', 'm3net_mamba', 'm3net_queries', 'cross_task', 'routed', 'hard')
CASES = [(name, False) for name in DIFFERENT] + [('cross_task', True)]
"""Name, and whether both processes see the same samples, with norms that move."""
TOLERANCE = 2e-5
"""Of a tensor's largest change; counts of one's own or balance by one's own tokens differ by some percent."""


def make_parts(name: str) -> tuple[nn.Module, nn.Module | None]:
    """Fuser and bridge."""
    if name == 'm3net_queries':
        queries = dict(QUERIES, detection=40, voxels=20)
        return MAFI(SENSORS, WIDTH), M3NetBridge(
            GRID, WIDTH, TASKS, DECODER, queries, map_grid=GRID, query_heads=TASKS, voxel_grid=COARSE)
    if name.startswith('m3net'):
        decoder = dict(DECODER, variant=name.removeprefix('m3net_'))
        return MAFI(SENSORS, WIDTH), M3NetBridge(GRID, WIDTH, TASKS, decoder, QUERIES, map_grid=GRID)
    if name == 'cross_task':
        bridge = CrossTaskBridge(GRID, WIDTH, ('detection', 'map_segmentation'), levels=2, heads=4, points=2)
        return ConcatFuser(SENSORS, WIDTH), bridge
    ffn = HardFFN(TASKS) if name == 'hard' else RoutedFFN(
        experts=4, top=2, balance=0.5, tasks=TASKS, task_layers=1)
    return MetaBEV(SENSORS, WIDTH, GRID, ffn=ffn, **META), None


def make_heads(name: str) -> dict[str, nn.Module]:
    """Heads of the three tasks."""
    off = dict(lovasz=0, semantic_affinity=0, geometric_affinity=0)
    if name == 'm3net_queries':
        decoder = dict(layers=1, heads=4, points=2, feedforward=16)
        return {
            'detection': QueryBoxHead(GRID, WIDTH, 8),
            'map_segmentation': QueryMapHead(GRID, WIDTH, task_grid=GRID),
            'occupancy': QueryOccupancyHead(WIDTH, COARSE, decoder, None, losses=off, task_grid=VOXELS)}
    return {
        'detection': CenterHead(GRID, WIDTH, shared_channels=8),
        'map_segmentation': MapSegmentationHead(GRID, WIDTH, width=8, task_grid=GRID),
        'occupancy': OccupancyHead(GRID, WIDTH, width=8, hidden=16, mask=None, task_grid=VOXELS, losses=off)}


def make_system(name: str, moving_norms: bool) -> MultiTaskPerception:
    """Seeded, with gates that are open."""
    torch.manual_seed(0)
    fuser, bridge = make_parts(name)
    heads = make_heads(name)
    heads = {task: head for task, head in heads.items() if bridge is None or task in bridge.tasks}
    model = MultiTaskPerception(
        {'camera': make_camera(), 'lidar': make_lidar()}, fuser, Trunk(WIDTH, WIDTH, (16, 16), (1, 1)), heads,
        bridge, data_preprocessor=BatchPreprocessor())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.train()
    if not moving_norms:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.eval()
    return model


def make_labels(number: int) -> Annotations:
    """More objects with every sample, and other ground; the last one has no map."""
    rng, count = np.random.default_rng(number), 1 + 3 * number
    boxes_M9 = np.zeros((count, 9), np.float32)
    boxes_M9[:, :2], boxes_M9[:, 3:6] = rng.uniform(-12, 12, (count, 2)), (4, 2, 1.5)
    none = np.zeros(count, np.int64)
    boxes = BoxLabels(boxes_M9, rng.integers(0, 10, count), none, none + 5, none, none)
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]]) * (2 + 2 * number)
    layers = MapLayers({'drivable_area': ((square, ()),)}, {}, 30.0)
    semantics = rng.integers(0, 18, VOXELS.shape_ZYX[::-1]).astype(np.uint8)
    semantics[:4 * number] = 255  # not labelled
    ones = np.ones_like(semantics)
    return Annotations(
        str(number), boxes, None if number == 3 else layers, OccupancyLabels(semantics, ones, ones))


def make_samples(dropped: bool) -> tuple[Batch, list[Annotations]]:
    """Four samples; where asked the first has no cameras and the last no LiDAR."""
    batch = make_batch(4, cameras=2)
    if dropped:
        batch.camera_present_BN[0] = False
        batch.lidar_present_B[3] = False
    return batch, [make_labels(number) for number in range(4)]


def part_of(batch: Batch, samples: Sequence[int]) -> Batch:
    """Some samples of a batch."""
    def pick(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(value[number] for number in samples)
        return None if value is None else value[list(samples)]

    names = [field.name for field in fields(Batch) if field.name != 'before']
    return replace(batch, **{name: pick(getattr(batch, name)) for name in names})


def train(name: str, same: bool, rank: int | None) -> dict[str, Any]:
    """Two batches and one update; of a rank, or (None) of one process with the samples of both.

    Returns:
        Losses of each batch, change of each weight, and running means.
    """
    model = make_system(name, moving_norms=same)
    batch, labels = make_samples(dropped=not same)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    wrapped = model if rank is None else MMDistributedDataParallel(model, find_unused_parameters=True)
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), 1.0), accumulative_counts=2)
    wrapper.initialize_count_status(wrapped, 0, 2)

    logs = []
    for of_rank in ((0, 0), (2, 2)) if same else ((0, 1), (2, 3)):
        chosen = of_rank if rank is None else of_rank[rank:rank + 1]
        data = {'inputs': part_of(batch, chosen), 'data_samples': [labels[number] for number in chosen]}
        terms = wrapped.train_step(data, wrapper)
        logs.append({key: float(term.detach()) for key, term in terms.items()})
    assert wrapper.skipped == 0
    changes = {key: p.detach() - before[key] for key, p in model.named_parameters()}
    means = {key: value for key, value in model.named_buffers() if key.endswith('running_mean')}
    return {'logs': logs, 'changes': changes, 'means': means}


def train_rank(folder: Path) -> None:
    """All cases on a rank; leaves a file each."""
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    for number, case in enumerate(CASES):
        torch.save(train(*case, rank), folder / f'{number}_{rank}.pt')


@pytest.fixture(scope='module')
def on_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(train_rank, folder)
    return folder


@pytest.mark.parametrize('case', CASES, ids=lambda case: f'{case[0]}{"-same" if case[1] else ""}')
def test_two_processes_learn_as_one(case: tuple[str, bool], on_two: Path) -> None:
    both = [torch.load(on_two / f'{CASES.index(case)}_{rank}.pt', weights_only=True) for rank in (0, 1)]
    alone = train(*case, None)

    for step, terms in enumerate(alone['logs']):
        for name, value in terms.items():
            mean = sum(rank['logs'][step][name] for rank in both) / 2
            assert mean == pytest.approx(value, rel=1e-4, abs=1e-6), (step, name)
    if not case[1]:  # a rank alone would say something else
        assert both[0]['logs'][0]['loss'] != pytest.approx(alone['logs'][0]['loss'], rel=0.05)

    # batch statistics enlarge the last bit of float32
    moved, tolerance = 0, (10 if case[1] else 1) * TOLERANCE
    for name, change in alone['changes'].items():
        largest = float(change.abs().max())
        moved += largest > 1e-7
        for rank in both:
            torch.testing.assert_close(
                rank['changes'][name], change, rtol=0, atol=tolerance * largest + 2e-7,
                msg=lambda said, name=name: f'{name}: {said}')
    assert moved > 0.9 * len(alone['changes'])
    if case[1]:
        torch.testing.assert_close(both[0]['means'], alone['means'], rtol=1e-3, atol=1e-5)
