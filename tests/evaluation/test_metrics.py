"""The metric inside mmengine: truth is perfect, one process equals many, no truth means no scores, stored
equals live."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from perception.core.contracts import (
    SIZE,
    Annotations,
    Boxes3D,
    BoxLabels,
    Frame,
    LanePolylines,
    Lanes,
    MapLayers,
    MapSegmentation,
    Occupancy,
    OccupancyLabels,
    TaskOutput,
)
from perception.core.geometry import make_transform, rotation_z
from perception.core.raster import resample_polyline
from perception.evaluation.detection.metric import join_truths
from perception.evaluation.evaluate import Split, evaluate
from perception.evaluation.map_segmentation.protocol import draw_truth
from perception.evaluation.metrics import MultiTaskMetric
from perception.evaluation.reports.table import format_scores
from perception.evaluation.storage.results import ResultStore
from perception.evaluation.suite import MetricSuite
from perception.registry import METRICS
from tests.command import call
from tests.ranks import run_ranks


def moment(i: int) -> tuple[Frame, Annotations]:
    """Sample i of a drive with boxes, map, a coarse room of voxels and lanes."""
    rng = np.random.default_rng(i)
    pose = make_transform(rotation_z(0.1 * i)[:3, :3], np.array([500 + 4.0 * i, 300, 0]))
    m = 12
    boxes = np.concatenate([rng.uniform(-25, 25, (m, 2)), rng.normal(size=(m, 1)), rng.uniform(1, 4, (m, 3)),
                            rng.uniform(-3, 3, (m, 1)), rng.normal(size=(m, 2))], 1).astype(np.float32)
    labels = BoxLabels(
        boxes, np.arange(m) % 10, np.full(m, -1), np.full(m, 5), np.zeros(m, int), np.arange(m) % 5
    )
    square = np.array([[-20.0, -20], [20, -20], [20, 20], [-20, 20]])
    layers = MapLayers({'drivable_area': ((square, ()),), 'walkway': ((square / 2 + 20, ()),),
                        'ped_crossing': ((square / 4, ()),), 'stop_line': ((square / 5, ()),),
                        'carpark_area': ((square / 3, ()),)},
                       {'divider': (np.array([[-40.0, i], [40, i]]),)}, 60.0)
    grid = np.full((200, 200, 16), 17, np.uint8)
    grid[:, :, 0], grid[90:110, 130:133, 1:6], grid[20:30, :, 1:4] = 11, 15, 4
    mask = np.ones_like(grid)
    lanes = LanePolylines(
        tuple(np.array([[-25.0, y], [25, y + 1]], np.float32) for y in (-6, 0, 6)), np.array([0, 2, 3]), 65.0
    )
    ego_T_lidar = make_transform(rotation_z(-np.pi / 2)[:3, :3], np.array([0.96, 0, 1.84]))
    frame = Frame(f'sample{i:02d}', i, pose, f'scene{i // 4}', 'singapore-onenorth', ego_T_lidar)
    return frame, Annotations(frame.token, labels, layers, OccupancyLabels(grid, mask, mask), lanes)


def perfect(frame: Frame, truth: Annotations, noise: float = 0.0, seed: int = 0) -> TaskOutput:
    """The truth as a prediction, moved by noise."""
    rng = np.random.default_rng((seed, frame.timestamp_ns))
    boxes = truth.boxes
    b = (boxes.boxes_M9 + noise * rng.normal(size=boxes.boxes_M9.shape)).astype(np.float32)
    b[:, SIZE] = np.abs(b[:, SIZE]) + 0.1 * (noise > 0)
    scores = rng.choice([0.3, 0.5, 0.9], len(b)) if noise else np.full(len(b), 0.9)
    grid = truth.occupancy.semantics_XYZ.copy()
    if noise:
        grid[rng.integers(0, 200, 3000), rng.integers(0, 200, 3000), rng.integers(0, 16, 3000)] = 15
    points = np.stack([resample_polyline(p, 20) for p in truth.lanes.points]) + noise * rng.normal(
        size=(3, 1, 2)
    )
    mask = draw_truth(truth.map_layers).astype(np.float32)
    return TaskOutput(
        frame,
        Boxes3D(b, scores.astype(np.float32), boxes.labels_M, boxes.attributes_M),
        MapSegmentation(
            np.abs(mask - np.float32(noise) * rng.random(mask.shape, dtype=np.float32)), (-50.0, 50.0),
            (-50.0, 50.0)),
        Occupancy(grid, np.full(grid.shape, 0.75, np.float16)),
        Lanes(points.astype(np.float32), rng.random(3).astype(np.float32), truth.lanes.labels_L),
    )


NO_RAYS = {'occupancy': {'rays': False}}
MOMENTS = [moment(i) for i in range(6)]
HEADLINES = (
    'map/mIoU', 'map/mIoU@0.5', 'occupancy/mIoU_camera', 'occupancy/mIoU_lidar', 'occupancy/mIoU_all',
    'occupancy/RayIoU', 'lanes/mAP', 'detection/mAP')


def run(metric: MultiTaskMetric, moments, noise=0.0, batch: int = 2) -> dict[str, float]:
    for i in range(0, len(moments), batch):
        some = moments[i:i + batch]
        metric.process({'inputs': None, 'data_samples': [truth for _, truth in some]},
                       [perfect(*pair, noise=noise) for pair in some])
    return metric.evaluate(len(moments))


def test_truth_is_perfect_in_every_task():
    scores = run(METRICS.build(dict(type='MultiTaskMetric')), MOMENTS)
    for name in HEADLINES:
        assert scores[name] == pytest.approx(1.0, abs=1e-6), name
    assert scores['detection/mATE'] == pytest.approx(0, abs=1e-4)
    assert scores['detection/mAOE'] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ('kind', 'prefix'),
    [
        ('DetectionMetric', 'detection/'), ('MapSegmentationMetric', 'map/'),
        ('OccupancyMetric', 'occupancy/'), ('LaneMetric', 'lanes/')],
)
def test_one_task_alone(kind, prefix):
    options = dict(options=NO_RAYS) if kind == 'OccupancyMetric' else {}
    scores = run(METRICS.build(dict(type=kind, **options)), MOMENTS[:2])
    assert scores and all(name.startswith(prefix) for name in scores)
    assert 'occupancy/RayIoU' not in scores


def test_order_and_repeats_change_nothing():
    """Summaries in any order, padded with repeats as a distributed sampler pads, give the same scores to the
    last bit."""
    suite = MetricSuite(options={'lanes': {'ranges': ('60x30', '100x50')}})
    summaries = [suite.summarise(perfect(frame, truth, 0.4), truth) for frame, truth in MOMENTS]
    scores = suite.report(summaries).metrics
    mixed = [summaries[i] for i in (3, 1, 5, 0, 2, 4, 3, 1)]
    assert json.dumps(suite.report(mixed).metrics) == json.dumps(scores)
    assert 0 < scores['detection/mAP'] < 1
    assert 0 < scores['lanes/mAP'] <= 1
    assert 'lanes_100x50/mAP' in scores


def scores_of_a_rank(folder: Path) -> None:
    """What one of two processes does with its share of the drive."""
    dist.init_process_group('gloo')
    metric = MultiTaskMetric(results_dir=folder / 'two', options=NO_RAYS)
    moments = MOMENTS[:5]
    for pair in (moments + moments[:1])[dist.get_rank()::2]:
        metric.process(dict(inputs=None, data_samples=[pair[1]]), [perfect(*pair, noise=0.4)])
    scores = metric.evaluate(len(moments))
    (folder / f'rank{dist.get_rank()}.json').write_text(json.dumps(scores))


def test_two_processes_equal_one(tmp_path):
    """A gloo run of two processes, each with every second sample, gives exactly one process's scores and
    files."""
    alone = MultiTaskMetric(results_dir=tmp_path / 'one', options=NO_RAYS)
    single = run(alone, MOMENTS[:5], noise=0.4, batch=1)
    run_ranks(scores_of_a_rank, tmp_path)
    for rank in (0, 1):
        assert (tmp_path / f'rank{rank}.json').read_text() == json.dumps(single)
    two, one = ((tmp_path / name / 'results_nusc.json').read_bytes() for name in ('two', 'one'))
    assert two == one


def test_without_truth_results_are_written_and_no_scores(tmp_path):
    metric = MultiTaskMetric(results_dir=tmp_path, meta={'use_camera': True})
    metric.process({'inputs': None, 'data_samples': [None, None]}, [perfect(*pair) for pair in MOMENTS[:2]])
    assert metric.evaluate(2) == {}
    assert json.loads((tmp_path / 'results_nusc.json').read_text())['meta']['use_camera'] is True
    assert ResultStore(tmp_path).tokens() == ['sample00', 'sample01'] and (tmp_path / 'lanes.json').is_file()


def test_a_task_without_labels_gives_no_scores_but_others_do():
    bare = [(f, Annotations(a.token, boxes=a.boxes)) for f, a in MOMENTS[:2]]
    metric = MultiTaskMetric()
    metric.process({'data_samples': [a for _, a in bare]}, [perfect(*pair) for pair in MOMENTS[:2]])
    scores = metric.evaluate(2)
    assert scores['detection/NDS'] > 0.5 and not any(
        n.startswith(('map/', 'lanes/', 'occupancy/')) for n in scores
    )


def test_stored_results_score_like_live_ones(tmp_path, monkeypatch):
    live = run(MultiTaskMetric(results_dir=tmp_path), MOMENTS, noise=0.3)
    labels = {f.token: a for f, a in MOMENTS}
    from perception.evaluation.detection.truth import GroundTruth
    truth = join_truths([GroundTruth.from_frames([(f, a.boxes)]) for f, a in MOMENTS])
    monkeypatch.setattr(Split, 'truth', lambda self, classes: truth)
    again = evaluate(tmp_path, Split(tmp_path, 'v', 's', labels.get)).metrics
    assert (
        json.dumps(again)
        == json.dumps(live)
        == json.dumps(json.loads((tmp_path / 'metrics.json').read_text()))
    )


def test_summaries_are_small():
    import pickle
    suite = MetricSuite()
    size = len(pickle.dumps(suite.summarise(perfect(*MOMENTS[0]), MOMENTS[0][1])))
    assert size < 60_000


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="unknown \\['tracking'\\]"):
        MultiTaskMetric(tasks=('tracking',))
    with pytest.raises(ValueError, match='root, version and split go together'):
        MultiTaskMetric(root='data/nuscenes')


def test_table_names_every_task():
    text = format_scores(run(MultiTaskMetric(), MOMENTS[:2]))
    for word in (
        'detection', 'NDS', 'RayIoU@2m', 'mIoU_camera', 'traffic_cone', 'ped_crossing', 'centerline'):
        assert word in text
    assert 'no scores' in format_scores({})


def test_tool_evaluates_a_file(small_root, small_truth, results_from_truth, tmp_path):
    path, out = tmp_path / 'results.json', tmp_path / 'metrics.json'
    path.write_text(json.dumps(results_from_truth(small_truth, noise=0.3)))
    done = call('evaluate', path, '--root', small_root, '--version', 'v1.0-mini', '--split', 'mini_val',
                '--out', out)
    scores = json.loads(out.read_text())['metrics']
    assert done.status == 0 and 'NDS' in done.out and 0 < scores['detection/NDS'] < 1


def test_tool_names_what_is_wrong(small_root, tmp_path, monkeypatch, capsys):
    import importlib.util
    tool = Path(__file__).parents[2] / 'tools' / 'evaluate.py'
    spec = importlib.util.spec_from_file_location('evaluate_tool', tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path / 'results.json'
    path.write_text('{"meta": {}, "results": {"x": []')
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'evaluate.py', str(path), '--root', str(small_root), '--version', 'v1.0-mini', '--split',
            'mini_val'],
    )
    assert module.main() == 1 and 'results.json: truncated JSON' in capsys.readouterr().err


def test_devkit_has_the_same_names_and_scores(small_root, small_truth, results_from_truth, tmp_path):
    pytest.importorskip('nuscenes', reason='nuscenes-devkit is not installed')
    from perception.evaluation.evaluate import evaluate_official
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(results_from_truth(small_truth, noise=0.3)))
    split = Split(small_root, 'v1.0-mini', 'mini_val')
    ours, theirs = evaluate(path, split).metrics, evaluate_official(path, split)
    assert set(ours) - set(theirs) == {'detection/NDS_present_classes', 'detection/mAP_present_classes'}
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)
