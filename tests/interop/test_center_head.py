"""Our CenterHead and mmdet3d's: the same weights and boxes give the same targets, losses and detections."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
pytest.importorskip('mmcv', reason=MISSING)
pytest.importorskip('mmdet3d', reason=MISSING)

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from perception.core.contracts import Annotations, BoxLabels  # noqa: E402
from perception.core.grid import BEVGrid  # noqa: E402
from perception.core.protocols import DETECTION_CLASSES  # noqa: E402
from perception.heads.detection import targets  # noqa: E402
from perception.heads.detection.head import CenterHead  # noqa: E402

pytestmark = pytest.mark.interop

GROUPS = (('car',), ('truck', 'construction_vehicle'), ('bus', 'trailer'), ('barrier',),
          ('motorcycle', 'bicycle'), ('pedestrian', 'traffic_cone'))
FLAT = [name for group in GROUPS for name in group]
GRID = BEVGrid(x_range_m=(-25.6, 25.6), y_range_m=(-25.6, 25.6), cell_m=0.8)
CHANNELS = 8
SQUARED_RADII = [4, 12, 10, 1, 0.85, 0.175]
"""Circle NMS of the published configuration, square metres by group."""
PARTS = ('reg', 'height', 'dim', 'rot', 'vel')
LENGTHS = dict(car=4.6, truck=7, construction_vehicle=6.5, bus=11, trailer=12, barrier=0.6, motorcycle=2,
               bicycle=1.7, pedestrian=0.8, traffic_cone=0.4)


def make_theirs() -> Any:
    """mmdet3d's head as its CenterPoint on pillars configures it."""
    import mmdet.models  # noqa: F401
    import mmdet3d.models  # noqa: F401
    from mmdet3d.registry import MODELS
    common = dict(
        out_size_factor=4, voxel_size=[0.2, 0.2, 8], point_cloud_range=[-25.6, -25.6, -5, 25.6, 25.6, 3])
    train = ConfigDict(
        grid_size=[256, 256, 1], dense_reg=1, gaussian_overlap=0.1, max_objs=500, min_radius=2,
        code_weights=[1.0] * 8 + [0.2, 0.2], **common)
    test = ConfigDict(nms_type='circle', min_radius=SQUARED_RADII, post_max_size=83)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return MODELS.build(dict(
            type='CenterHead', in_channels=CHANNELS,
            tasks=[dict(num_class=len(group), class_names=list(group)) for group in GROUPS],
            common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
            share_conv_channel=64,
            bbox_coder=dict(
                type='CenterPointBBoxCoder', post_center_range=[-30, -30, -10, 30, 30, 10], max_num=500,
                score_threshold=0.1, code_size=9, pc_range=[-25.6, -25.6], out_size_factor=4,
                voxel_size=[0.2, 0.2]),
            separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
            loss_cls=dict(type='mmdet.GaussianFocalLoss', reduction='mean'),
            loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25),
            norm_bbox=True, train_cfg=train, test_cfg=test))


def make_ours() -> CenterHead:
    """The same head of ours; attributes, which theirs has not, come on top."""
    radii = {name: SQUARED_RADII[g] ** 0.5 for g, group in enumerate(GROUPS) for name in group}
    return CenterHead(
        GRID, CHANNELS, shared_channels=64, groups=GROUPS,
        branches=dict(channels=64, separate=True, final_kernel=3), losses=dict(attribute=0.0),
        targets=dict(min_overlap=0.1, min_radius_cells=2),
        decoding=dict(score_threshold=0.1, nms='circle', radius_m=radii))


def copy_weights(theirs: nn.Module, ours: CenterHead) -> None:
    """Layer by layer; a hidden layer of theirs is convolution and norm, then comes a convolution."""
    pairs = [(theirs.shared_conv, ours.shared[0])]
    for their_group, our_branch in zip(theirs.task_heads, ours.branches, strict=True):
        layers = [(their_group.heatmap, our_branch.heatmap)]
        layers += zip((getattr(their_group, name) for name in PARTS), our_branch.regression, strict=False)
        pairs += [pair for theirs_, ours_ in layers for pair in zip(theirs_, ours_, strict=True)]
    for source, target in pairs:
        values = list(source.state_dict().values())
        target.load_state_dict(dict(zip(target.state_dict(), values, strict=True)))


@dataclass(frozen=True)
class Case:
    """Both heads, what they said of one map, and one scene each of two samples."""

    theirs: Any
    ours: CenterHead
    their_raw: tuple
    our_raw: dict[str, Tensor]
    samples: list[BoxLabels]


def scene(seed: int, names: list[str]) -> BoxLabels:
    """Boxes in cells of their own, some of unknown velocity, drawn twice for every class."""
    rng, count = np.random.default_rng(seed), 2 * len(names)
    cells = rng.choice(62 * 62, count, replace=False)
    centre_M2 = np.stack([cells % 62, cells // 62], 1) + 1 + rng.uniform(0.05, 0.95, (count, 2))
    boxes_M9 = np.zeros((count, 9), np.float32)
    boxes_M9[:, :2] = centre_M2 * 0.8 - 25.6
    boxes_M9[:, 2] = rng.uniform(-1, 2, count)
    length_M = np.array([LENGTHS[name] for name in names * 2]) * rng.uniform(0.9, 1.1, count)
    boxes_M9[:, 3:6] = np.stack([length_M, 0.3 + 0.25 * length_M, rng.uniform(0.8, 3, count)], 1)
    boxes_M9[:, 6] = rng.uniform(-np.pi, np.pi, count)
    boxes_M9[:, 7:] = rng.normal(0, 4, (count, 2))
    boxes_M9[::5, 7:] = np.nan
    labels = np.array([DETECTION_CLASSES.index(name) for name in names * 2])
    none = np.zeros(count, np.int64)
    return BoxLabels(boxes_M9, labels, none - 1, none + 9, none, none)


def instances(samples: list[BoxLabels]) -> list[InstanceData]:
    """Boxes as mmdet3d has them: z of the bottom, labels in the order of the groups."""
    from mmdet3d.structures import LiDARInstance3DBoxes
    found = []
    for boxes in samples:
        data = InstanceData()
        data.bboxes_3d = LiDARInstance3DBoxes(
            torch.from_numpy(boxes.boxes_M9), box_dim=9, origin=(0.5, 0.5, 0.5))
        data.labels_3d = torch.tensor([FLAT.index(DETECTION_CLASSES[label]) for label in boxes.labels_M])
        found.append(data)
    return found


def known(boxes: BoxLabels) -> BoxLabels:
    """With all velocities: one that is unknown makes mmdet3d's whole loss NaN (it multiplies by zero)."""
    return replace(boxes, boxes_M9=np.nan_to_num(boxes.boxes_M9))


def annotations(samples: list[BoxLabels]) -> list[Annotations]:
    return [Annotations(str(number), boxes=boxes) for number, boxes in enumerate(samples)]


@pytest.fixture(scope='module')
def case() -> Case:
    torch.manual_seed(0)
    theirs, ours = make_theirs().train(), make_ours().train()
    copy_weights(theirs, ours)
    bev = torch.randn(2, CHANNELS, *GRID.shape_YX)
    without_barriers = [name for name in FLAT if name != 'barrier']
    with torch.no_grad():
        return Case(theirs, ours, theirs([bev]), ours(bev), [scene(1, without_barriers), scene(2, FLAT[:4])])


def test_raw_outputs(case: Case) -> None:
    heatmaps = torch.cat([group[0]['heatmap'] for group in case.their_raw], 1)
    torch.testing.assert_close(case.our_raw['heatmap'], heatmaps, rtol=1e-4, atol=1e-5)
    boxes = torch.cat([torch.cat([group[0][name] for name in PARTS], 1) for group in case.their_raw], 1)
    torch.testing.assert_close(case.our_raw['box'], boxes, rtol=1e-4, atol=1e-5)
    assert float(boxes.std()) > 0.05


@pytest.fixture
def their_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks as wide as mmdet3d's, whose formula leaves a coefficient out (`test_radius`)."""
    from mmdet3d.models.utils.gaussian import gaussian_radius

    def radius(length: np.ndarray, width: np.ndarray, min_overlap: float) -> np.ndarray:
        sizes = torch.from_numpy(np.stack([width, length], 1)).float()
        return np.array([float(gaussian_radius((w, h), min_overlap)) for w, h in sizes])

    monkeypatch.setattr(targets, 'gaussian_radius', radius)


def test_radius() -> None:
    """The published quadratic's roots divide by 2 in place of 2a: peaks of the longest vehicles are a cell
    wider than the overlap asks for, all others are alike.
    """
    from mmdet3d.models.utils.gaussian import gaussian_radius
    for length_m in np.arange(0.4, 14, 0.2):
        size = np.array([length_m, 0.3 + 0.25 * length_m]) / 0.8
        theirs = max(2, int(gaussian_radius(tuple(torch.from_numpy(size)), 0.1)))
        ours = max(2, int(targets.gaussian_radius(size[0], size[1], 0.1)))
        assert (theirs, ours) == (3 if length_m > 11.25 else 2, 2), length_m


@pytest.mark.usefixtures('their_radius')
def test_targets(case: Case) -> None:
    heatmaps, codes, places, masks = case.theirs.get_targets(instances(case.samples))
    ours = case.ours.targets(annotations(case.samples))
    torch.testing.assert_close(ours.heatmap_BCYX, torch.cat(heatmaps, 1), rtol=1e-6, atol=1e-6)
    objects = sum(len(sample.labels_M) for sample in case.samples)
    assert int((ours.heatmap_BCYX == 1).sum()) == objects == len(ours.label_P)

    checked = 0
    for sample, group, row, column, code in zip(
            ours.sample_P, ours.group_P, ours.row_P, ours.column_P, ours.code_P10, strict=True):
        at = (places[group][sample] == row * GRID.x_size + column) & masks[group][sample].bool()
        assert int(at.sum()) == 1
        torch.testing.assert_close(
            code, codes[group][sample][at][0], rtol=1e-4, atol=2e-4, equal_nan=True)  # metres in float32
        checked += 1
    assert checked == sum(int(mask.sum()) for mask in masks)


@pytest.mark.usefixtures('their_radius')
def test_losses(case: Case) -> None:
    samples = [known(sample) for sample in case.samples]
    raw = tuple([{name: value.clone() for name, value in group[0].items()}] for group in case.their_raw)
    theirs = case.theirs.loss_by_feat(raw, instances(samples))
    ours = case.ours.loss(case.our_raw, case.ours.targets(annotations(samples)))
    for name, term in (('heatmap', 'heatmap'), ('box', 'bbox')):
        total = sum(value for key, value in theirs.items() if key.endswith(term))
        assert float(ours[name]) == pytest.approx(float(total), rel=2e-4) and float(total) > 0.5


def test_a_barrier_costs_what_the_nearer_of_its_two_headings_costs_there(case: Case) -> None:
    """Ours alone: a barrier has no front; the metric does not ask for one."""
    barriers = known(scene(3, ['barrier'])).select(np.array([True, False]))
    ours = case.ours.loss(case.our_raw, case.ours.targets(annotations([barriers] * 2)))['box']
    costs = []
    for turn in (0, np.pi):
        boxes_M9 = barriers.boxes_M9.copy()
        boxes_M9[:, 6] += turn
        raw = tuple([{name: value.clone() for name, value in group[0].items()}] for group in case.their_raw)
        theirs = case.theirs.loss_by_feat(raw, instances([replace(barriers, boxes_M9=boxes_M9)] * 2))
        costs.append(float(theirs['task3.loss_bbox']))
    assert min(costs) - 1e-3 <= float(ours) <= sum(costs) / 2 + 1e-3 and costs[0] != costs[1]


def test_detections(case: Case) -> None:
    """Peaks of their own, each with a lower one beside it that the NMS takes or leaves."""
    heatmap = torch.full_like(case.our_raw['heatmap'], -9.0)
    rng = np.random.default_rng(5)
    for sample, channel in np.ndindex(*heatmap.shape[:2]):
        for place in rng.choice(49, 5, replace=False):
            row, column = 4 + 8 * (place // 7), 4 + 8 * (place % 7)
            heatmap[sample, channel, row, column] = rng.uniform(0, 4)
            heatmap[sample, channel, row + 2, column] = rng.uniform(-1.5, 0)
    # two classes of a group in one place are a question of the NMS alone
    own = torch.arange(10)[:, None, None] % 2 == (torch.arange(64)[None, :, None] // 8 % 2)
    heatmap = torch.where(own, heatmap, -9.0)

    raw = tuple([{**group[0], 'heatmap': part}] for group, part in zip(
        case.their_raw, heatmap.split([len(group) for group in GROUPS], 1), strict=True))
    from mmdet3d.structures import LiDARInstance3DBoxes
    theirs = case.theirs.predict_by_feat(raw, [dict(box_type_3d=LiDARInstance3DBoxes)] * 2)
    ours = case.ours.decode({**case.our_raw, 'heatmap': heatmap})

    for their, our in zip(theirs, ours, strict=True):
        order = their.scores_3d.argsort(descending=True)
        boxes = their.bboxes_3d[order]
        boxes_M9 = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], 1).numpy()
        labels = [DETECTION_CLASSES.index(FLAT[label]) for label in their.labels_3d[order]]
        assert len(labels) > 25 and our.labels.tolist() == labels
        np.testing.assert_allclose(our.scores, their.scores_3d[order].numpy(), rtol=1e-5)
        np.testing.assert_allclose(our.boxes, boxes_M9, rtol=1e-4, atol=1e-4)
