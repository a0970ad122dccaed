"""Our results in mmdet3d's NuScenesMetric: the same scores as our own metric's."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
pytest.importorskip('mmcv', reason=MISSING)
pytest.importorskip('mmdet3d', reason=MISSING)

from perception.core.contracts import SIZE, VELOCITY, Boxes3D, TaskOutput  # noqa: E402
from perception.core.protocols import ATTRIBUTES, DETECTION_CLASSES  # noqa: E402
from perception.datasets.exchange.conventions import MMDET3D_CLASSES  # noqa: E402
from perception.datasets.exchange.safe_pickle import load_plain_pickle  # noqa: E402
from perception.datasets.reading.dataset import NuScenesDataset  # noqa: E402
from perception.evaluation.detection.file import read_detection_results  # noqa: E402
from perception.evaluation.detection.protocol import DetectionScores, score_detection  # noqa: E402
from perception.evaluation.detection.truth import GroundTruth  # noqa: E402
from perception.evaluation.storage.results import ResultStore  # noqa: E402
from perception.interop import to_mmdet3d  # noqa: E402
from tests.interop.conftest import VERSION  # noqa: E402

pytestmark = pytest.mark.interop


def noisy(labels, rng: np.random.Generator) -> Boxes3D:
    """Two thirds of the annotated boxes, shaken, and as many inventions as a fifth of them."""
    boxes = np.nan_to_num(labels.boxes_M9.astype(np.float64))
    keep = rng.random(len(boxes)) < 0.67
    shaken = boxes[keep] + rng.normal(0, 1, (keep.sum(), 9)) * [0.4, 0.4, 0.1, 0.2, 0.1, 0.1, 0.1, 0.5, 0.5]
    shaken[:, SIZE] = np.maximum(shaken[:, SIZE], 0.2)

    invented = boxes[rng.integers(0, len(boxes), len(boxes) // 5)] + rng.normal(
        0, 8, (len(boxes) // 5, 1)
    ) * ([1, 1] + [0] * 7)
    kinds = np.concatenate([labels.labels_M[keep], rng.integers(0, 10, len(invented))])
    rows = np.concatenate([shaken, invented]).astype(np.float32)

    scores = (rng.permutation(len(rows)) + 1) / (len(rows) + 1) * rng.uniform(0.9, 1)
    speeds = np.hypot(*rows[:, VELOCITY].T)
    attributes = np.array([attribute_of(DETECTION_CLASSES[k], v) for k, v in zip(kinds, speeds, strict=True)])
    return Boxes3D(rows, scores.astype(np.float32), kinds, attributes)


def attribute_of(name: str, speed_mps: float) -> int:
    """The rule by which mmdet3d replaces attributes of LiDAR detections (it never keeps a model's own)."""
    if name in ('traffic_cone', 'barrier'):
        return -1
    moves = speed_mps > 0.2
    if name == 'pedestrian':
        return ATTRIBUTES.index('pedestrian.moving' if moves else 'pedestrian.standing')
    if name in ('bicycle', 'motorcycle'):
        return ATTRIBUTES.index('cycle.with_rider' if moves else 'cycle.without_rider')
    return ATTRIBUTES.index(
        'vehicle.moving' if moves else 'vehicle.stopped' if name == 'bus' else 'vehicle.parked'
    )


@pytest.fixture(scope='module')
def outputs(tiny_world: Path) -> list[TaskOutput]:
    """Predictions of a mediocre detector on the validation split."""
    rng = np.random.default_rng(0)
    dataset = NuScenesDataset(
        tiny_world, VERSION, split='val', sensors=[], tasks=['detection'],
        reading=dict(lidar_sweeps=0, radar_sweeps=0),
    )
    return [
        TaskOutput(sample.frame, detection=noisy(annotations.boxes, rng)) for sample, annotations in dataset
    ]


@pytest.fixture(scope='module')
def results(outputs: list[TaskOutput], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official results file, as `tools/test.py` writes it."""
    store = ResultStore(tmp_path_factory.mktemp('results'))
    for output in outputs:
        store.write(output)
    return store.merge({'use_lidar': True})['detection']


@pytest.fixture(scope='module')
def ours(results: Path, tiny_world: Path) -> DetectionScores:
    return score_detection(
        read_detection_results(results), GroundTruth.from_tables(tiny_world, VERSION, 'val')
    )


@pytest.fixture
def metric(tiny_world: Path, exported: dict[str, Path]):
    from mmdet3d.evaluation import NuScenesMetric
    metric = NuScenesMetric(data_root=str(tiny_world), ann_file=str(exported['val']))
    metric.dataset_meta = {'classes': MMDET3D_CLASSES, 'version': VERSION}
    return metric


def named_scores(scores: DetectionScores, prefix: str) -> dict[str, float]:
    """Our scores under mmdet3d's names."""
    summary = scores.summary()
    found = {f'{name}_AP_dist_{d}': ap for name, aps in summary['label_aps'].items() for d, ap in aps.items()}
    found |= {
        f'{name}_{e}': v for name, errors in summary['label_tp_errors'].items() for e, v in errors.items()
    }
    short = {
        'trans_err': 'mATE', 'scale_err': 'mASE', 'orient_err': 'mAOE', 'vel_err': 'mAVE', 'attr_err': 'mAAE'}
    found |= {short[e]: v for e, v in summary['tp_errors'].items()}
    return {
        f'{prefix}_NuScenes/{k}': v for k, v in (found | {'NDS': scores.nds, 'mAP': scores.mean_ap}).items()
    }


def test_their_evaluation_of_our_file_gives_our_scores(metric, results: Path, ours: DetectionScores) -> None:
    """Every score they report; they round all but NDS and mAP to four digits."""
    metric.version = VERSION
    theirs, mine = metric._evaluate_single(str(results), MMDET3D_CLASSES, 'ours'), named_scores(ours, 'ours')
    assert theirs.keys() == mine.keys() and len(mine) == 10 * 9 + 7
    for name, value in theirs.items():
        atol = 1e-12 if name.endswith(('NDS', 'mAP')) else 5.1e-5
        np.testing.assert_allclose(mine[name], value, atol=atol, err_msg=name, equal_nan=True)
    assert 0.05 < ours.nds < 0.9 and 0.05 < ours.mean_ap < 0.9


def test_our_boxes_through_their_metric_from_end_to_end(
    metric, outputs: list[TaskOutput], exported: dict[str, Path], ours: DetectionScores
) -> None:
    """Ego -> their boxes in the tilted LiDAR's frame -> their formatting -> the same scores, but for
    float32."""
    infos = load_plain_pickle(exported['val'])['data_list']
    place = {info['token']: i for i, info in enumerate(infos)}
    for output in outputs:
        i = place[output.frame.token]
        found = to_mmdet3d(
            output.detection, output.frame.global_T_ego, np.array(infos[i]['lidar_points']['lidar2ego'])
        )
        metric.process({}, [{'pred_instances_3d': found, 'pred_instances': {}, 'sample_idx': i}])
    theirs, mine = metric.compute_metrics(metric.results), named_scores(ours, 'pred_instances_3d')
    for name in ('NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE'):
        name = f'pred_instances_3d_NuScenes/{name}'
        assert theirs[name] == pytest.approx(mine[name], abs=1e-3), name
