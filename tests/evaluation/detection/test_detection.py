"""Our detection scores against the devkit's, and against numbers one can check in the head."""
from __future__ import annotations

import copy
import gzip
import json
import math

import numpy as np
import pytest

from perception.core.contracts import BoxLabels, Frame
from perception.core.protocols import DETECTION_CLASSES
from perception.evaluation.detection.boxes import BoxTable, Rack, yaw_of_quaternions
from perception.evaluation.detection.file import detection_results_from, read_detection_results
from perception.evaluation.detection.matching import match_class, match_class_reference
from perception.evaluation.detection.protocol import (
    angle_between,
    average_precision,
    running_mean,
    score_boxes,
    score_detection,
)
from perception.evaluation.detection.truth import GroundTruth
from perception.evaluation.errors import ResultError

FIELDS = ('mean_ap', 'nd_score', 'tp_errors', 'tp_scores', 'mean_dist_aps', 'label_aps', 'label_tp_errors')


def pairs(ours, theirs, name=''):
    """Every number of the official summary beside ours."""
    for key, value in theirs.items():
        mine = {str(k): v for k, v in ours.items()}[str(key)]
        if isinstance(value, dict):
            yield from pairs(mine, value, f'{name}/{key}')
        else:
            yield f'{name}/{key}', mine, float(value)


def assert_same(ours: dict, theirs: dict) -> None:
    found = list(pairs(ours, {k: v for k, v in theirs.items() if k in FIELDS}))
    assert len(found) > 100 or len(theirs) < 7
    for name, mine, official in found:
        assert (math.isnan(mine) and math.isnan(official)) or abs(mine - official) < 1e-9, (
            name, mine, official)


# -------------------------------------------------------------------- against the devkit

def nothing(content, rng):
    """The noisy truth as it is."""


def ties(content, rng):
    for box in all_boxes(content):
        box['detection_score'] = float(rng.choice([0.25, 0.5, 0.75]))


def one_score(content, rng):
    for box in all_boxes(content):
        box['detection_score'] = 0.5


def zero_scores(content, rng):
    for box in all_boxes(content):
        box['detection_score'] = float(rng.choice([0.0, 0.5]))


def empty_samples(content, rng):
    for token in list(content['results'])[::2]:
        content['results'][token] = []


def missing_classes(content, rng):
    drop_classes(content, ('car', 'pedestrian', 'barrier'))


def only_one_class(content, rng):
    drop_classes(content, [c for c in DETECTION_CLASSES if c != 'bicycle'])


def nan_velocities(content, rng):
    for box in all_boxes(content):
        if rng.random() < 0.5:
            box['velocity'] = [float('nan'), float('nan')]


def all_nan_velocities(content, rng):
    for box in all_boxes(content):
        box['velocity'] = [float('nan'), 1.0]


def wrong_attributes(content, rng):
    for box in all_boxes(content):
        box['attribute_name'] = str(rng.choice(['', 'vehicle.moving', 'pedestrian.standing']))


def shuffled_boxes(content, rng):
    for boxes in content['results'].values():
        rng.shuffle(boxes)


def duplicates(content, rng):
    for token, boxes in content['results'].items():
        content['results'][token] = boxes + copy.deepcopy(boxes)


def long_quaternions(content, rng):
    for box in all_boxes(content):
        box['rotation'] = (np.array(box['rotation']) * rng.uniform(0.1, 5)).tolist()


def turned_half(content, rng):
    for box in all_boxes(content):
        w, x, y, z = box['rotation']
        box['rotation'] = [-z, -y, x, w]


def points_given(content, rng):
    for box in all_boxes(content):
        box['num_pts'] = int(rng.integers(-1, 3))


def snapped_to_range(content, rng):
    """Boxes exactly on and just beside the border of their class's range."""
    for box in all_boxes(content):
        reach = {'pedestrian': 40.0, 'traffic_cone': 30.0, 'barrier': 30.0}.get(box['detection_name'], 50.0)
        k = int(box['sample_token'].split('-')[-1])
        box['translation'][:2] = [600 + 2.0 * k + reach + float(rng.choice([-1e-9, 0.0, 1e-9])), 1600.0]


def into_racks(content, rng):
    for box in all_boxes(content):
        if box['detection_name'] in ('bicycle', 'motorcycle', 'car'):
            k = int(box['sample_token'].split('-')[-1])
            box['translation'] = [600 + 2.0 * k + rng.uniform(3, 17), 1600 + rng.uniform(3, 17), 1.0]


def all_boxes(content):
    return [box for boxes in content['results'].values() for box in boxes]


def drop_classes(content, names):
    for token, boxes in content['results'].items():
        content['results'][token] = [b for b in boxes if b['detection_name'] not in names]


CHANGES = [
    nothing, ties, one_score, zero_scores, empty_samples, missing_classes, only_one_class, nan_velocities,
    all_nan_velocities, wrong_attributes, shuffled_boxes, duplicates, long_quaternions, turned_half,
    points_given, snapped_to_range, into_racks]


@pytest.mark.parametrize('change', CHANGES, ids=lambda c: c.__name__)
def test_equals_devkit_on_adversarial_results(
    change, small_root, small_truth, results_from_truth, official, tmp_path
):
    content = results_from_truth(small_truth, noise=0.6, copies=2, seed=CHANGES.index(change))
    change(content, np.random.default_rng(5))
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(content))
    ours = score_detection(read_detection_results(path), small_truth).summary()
    assert_same(ours, official(small_root, path, tmp_path / 'out'))


def test_truth_of_tables_equals_devkit_loading(small_root, small_truth, official):
    from nuscenes import NuScenes
    from nuscenes.eval.common.loaders import load_gt
    from nuscenes.eval.detection.data_classes import DetectionBox
    theirs = load_gt(NuScenes('v1.0-mini', str(small_root), verbose=False), 'mini_val', DetectionBox).all
    ours = small_truth.boxes
    assert len(ours) == len(theirs) > 100
    np.testing.assert_array_equal(ours.centre_M3, [b.translation for b in theirs])
    np.testing.assert_array_equal(ours.velocity_M2, [b.velocity for b in theirs])
    np.testing.assert_array_equal(ours.points_M, [b.num_pts for b in theirs])
    assert [DETECTION_CLASSES[i] for i in ours.label_M] == [b.detection_name for b in theirs]
    assert np.isnan(ours.velocity_M2).any() and len(small_truth.racks) > 0


def test_more_than_500_boxes_is_the_devkits_error(
    small_root, small_truth, results_from_truth, official, tmp_path
):
    content = results_from_truth(small_truth, noise=0.1)
    token = small_truth.tokens[3]
    content['results'][token] = (content['results'][token] * 501)[:501]
    path = tmp_path / 'many.json'
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match='Only <= 500 boxes per sample allowed') as ours:
        read_detection_results(path)
    assert token in str(ours.value) and '501' in str(ours.value)
    with pytest.raises(AssertionError, match='Only <= 500 boxes per sample allowed'):
        official(small_root, path, tmp_path / 'out')


def test_real_detections_give_the_reference_scores(real_frames):
    reference = json.loads((real_frames / 'detections' / 'reference_metrics_devkit-1.2.0.json').read_text())
    results = read_detection_results(real_frames / 'detections' / 'mini_val_cc3dt_pure_det.json.gz')
    ours = score_detection(results, GroundTruth.from_tables(real_frames, 'v1.0-mini', 'mini_val')).summary()
    assert abs(ours['mean_ap'] - 0.2190029404) < 1e-9 and abs(ours['nd_score'] - 0.2691409947) < 1e-9
    found = list(pairs(ours, reference))
    assert len(found) >= 60
    for name, mine, official_value in found:
        assert abs(mine - official_value) < 1e-9, name


def test_perturbed_real_detections_equal_devkit(real_frames, official, tmp_path):
    with gzip.open(real_frames / 'detections' / 'mini_val_cc3dt_pure_det.json.gz', 'rt') as file:
        content = json.load(file)
    rng = np.random.default_rng(1)
    for box in all_boxes(content):
        box['detection_score'] = round(box['detection_score'], 1)
        box['translation'] = (np.array(box['translation']) + rng.normal(size=3) * 0.3).tolist()
        if rng.random() < 0.1:
            box['velocity'] = [float('nan')] * 2
    path = tmp_path / 'perturbed.json'
    path.write_text(json.dumps(content))
    ours = score_detection(
        read_detection_results(path), GroundTruth.from_tables(real_frames, 'v1.0-mini', 'mini_val')
    )
    assert_same(ours.summary(), official(real_frames, path, tmp_path / 'out'))


# -------------------------------------------------------------------- by hand

def table(xs, scores=None, label=0, samples=None, **columns) -> BoxTable:
    m = len(xs)
    fields = dict(
        size_M3=np.ones((m, 3)), yaw_M=np.zeros(m), velocity_M2=np.zeros((m, 2)), label_M=np.full(m, label)
    )
    fields.update(columns)
    centres = np.array([[x, 0.0, 0.0] for x in xs]).reshape(m, 3)
    return BoxTable.make(np.zeros(m) if samples is None else samples, centres, score_M=scores, **fields)


def truth_of(boxes: BoxTable, samples: int = 1, racks=()) -> GroundTruth:
    return GroundTruth(tuple(f's{i}' for i in range(samples)), np.zeros((samples, 3)), boxes, tuple(racks))


def test_one_of_two_found_by_hand():
    """Two cars, one found: precision is 1 up to recall 0.5, so of the 90 recalls 0.11 ... 1 forty score 1: AP
    = 40 / 90."""
    scores = score_boxes(table([10.0], [0.9]), truth_of(table([10.0, 20.0])))
    assert scores.ap_CT[0] == pytest.approx([40 / 90] * 4, abs=1e-12)
    assert scores.mean_ap == pytest.approx(0.04444444444444, abs=1e-12)


def test_a_miss_after_the_hit_lowers_the_last_recall_only():
    """With a worse second detection in the void, recall 0.5 has precision 1/2: 39 ones and one (0.5 - 0.1) /
    0.9 = 4 / 9."""
    scores = score_boxes(table([10.0, 30.0], [0.9, 0.8]), truth_of(table([10.0, 20.0])))
    assert scores.ap_CT[0] == pytest.approx([(39 + 4 / 9) / 90] * 4, abs=1e-12)


def test_present_classes_by_hand():
    """Only cars, all found, attributes unknown and velocities right: mAP 0.1 officially, 1 of the present
    class."""
    scores = score_boxes(table([10.0, 20.0], [0.9, 0.8]), truth_of(table([10.0, 20.0])))
    assert scores.mean_ap == pytest.approx(0.1)
    nds, mean_ap = scores.of_present_classes()
    assert mean_ap == pytest.approx(1.0) and nds == pytest.approx((5 + 1 + 1 + 1 + 1 + 0) / 10)
    assert all(math.isnan(v) for v in score_boxes(table([]), truth_of(table([]))).of_present_classes())


def test_thresholds_by_hand():
    """0.75 m away: no match at 0.5 m, a match at 1, 2 and 4 m."""
    scores = score_boxes(table([10.75], [0.9]), truth_of(table([10.0])))
    assert scores.ap_CT[0] == pytest.approx([0, 1, 1, 1], abs=1e-12)
    assert scores.tp_error_CE[0, 0] == pytest.approx(0.75)


def test_distance_equal_to_the_threshold_is_no_match():
    assert score_boxes(table([10.5], [0.9]), truth_of(table([10.0]))).ap_CT[0] == pytest.approx([0, 1, 1, 1])


def test_errors_by_hand():
    """Half as long: IoU 1/2; turned by 0.3; 2 m/s off; wrong attribute."""
    truth = truth_of(table([10.0], size_M3=[[2, 4, 2]], attribute_M=[6], velocity_M2=[[1.0, 0]]))
    scores = score_boxes(table([10.0], [0.9], size_M3=[[2, 2, 2]], yaw_M=[0.3], attribute_M=[5],
                               velocity_M2=[[1.0, 2.0]]), truth)
    assert scores.tp_error_CE[0] == pytest.approx([0, 0.5, 0.3, 2.0, 1.0], abs=1e-12)


def test_barrier_and_cone_rules():
    """A barrier turned by 180 degrees has no orientation error; a cone has only place and size."""
    truth = truth_of(BoxTable.join([table([10.0], label=9), table([20.0], label=8)]))
    found = BoxTable.join(
        [table([10.0], [0.9], label=9, yaw_M=[math.pi]), table([20.0], [0.9], label=8, yaw_M=[1.0])]
    )
    scores = score_boxes(found, truth)
    barrier, cone = scores.tp_error_CE[9], scores.tp_error_CE[8]
    assert barrier[:3] == pytest.approx([0, 0, 0], abs=1e-12) and np.isnan(barrier[3:]).all()
    assert cone[:2] == pytest.approx([0, 0], abs=1e-12) and np.isnan(cone[2:]).all()


def test_later_entry_wins_a_tie_in_score():
    """Equal scores: the second box goes first and takes the truth, so the first box is the false one."""
    scores = score_boxes(table([10.4, 10.0], [0.5, 0.5]), truth_of(table([10.0])))
    assert scores.tp_error_CE[0, 0] == 0.0
    scores = score_boxes(table([10.0, 10.4], [0.5, 0.5]), truth_of(table([10.0])))
    assert scores.tp_error_CE[0, 0] == pytest.approx(0.4)


def test_range_border_points_and_racks():
    truth = truth_of(table([50.0, 49.0, 20.0], points_M=[3, 0, 3]))
    assert score_boxes(table([20.0], [0.9]), truth).ap_CT[0].tolist() == pytest.approx([1.0] * 4)
    rack = Rack(0, np.array([10.0, 0, 0]), np.array([2.0, 4, 2]), np.array([1.0, 0, 0, 0]))
    bikes = table([10.0, 12.0, 12.001], label=7)
    assert rack.contains(bikes.centre_M3).tolist() == [True, True, False]
    scores = score_boxes(table([12.001], [0.9], label=7), truth_of(bikes, racks=[rack]))
    assert scores.ap_CT[7].mean() == pytest.approx(1.0)


def test_truth_as_prediction_is_perfect(small_truth, results_from_truth):
    scores = score_detection(detection_results_from(results_from_truth(small_truth)), small_truth)
    present = [name for name in DETECTION_CLASSES if scores.curves[name, 2.0].truths > 0]
    assert len(present) >= 8
    for name in present:
        assert scores.ap_CT[DETECTION_CLASSES.index(name)].min() == pytest.approx(1.0), name
        assert np.nanmax(scores.tp_error_CE[DETECTION_CLASSES.index(name), :3]) < 1e-7, name


def test_no_boxes_at_all_scores_zero(small_truth):
    empty = detection_results_from({'meta': {}, 'results': {t: [] for t in small_truth.tokens}})
    scores = score_detection(empty, small_truth)
    assert scores.mean_ap == 0.0 and scores.nds == 0.0


def test_truth_from_frames_equals_truth_from_tables(small_truth, results_from_truth):
    """Boxes carried to ego float32 and back cost at most 1e-4 in any score."""
    from perception.core.geometry import invert, make_transform, rotation_z, transform_boxes
    items = []
    for s, token in enumerate(small_truth.tokens):
        rows = small_truth.boxes.select(small_truth.boxes.sample_M == s)
        global_T_ego = make_transform(rotation_z(0.3)[:3, :3], small_truth.ego_S3[s])
        boxes = np.concatenate(
            [rows.centre_M3, rows.size_M3[:, [1, 0, 2]], rows.yaw_M[:, None], rows.velocity_M2], 1
        )
        labels = BoxLabels(
            transform_boxes(invert(global_T_ego), boxes).astype(np.float32), rows.label_M.astype(np.int64),
            rows.attribute_M.astype(np.int64), rows.points_M, np.zeros(len(rows), dtype=int),
            rows.visibility_M)
        items.append((Frame(token, 0, global_T_ego), labels))
    again = GroundTruth.from_frames(items, small_truth.racks)
    results = detection_results_from(results_from_truth(small_truth, noise=0.5, copies=2))
    ours, theirs = score_detection(results, again).flat(), score_detection(results, small_truth).flat()
    assert ours == pytest.approx(theirs, abs=1e-4)


# -------------------------------------------------------------------- small parts

def test_running_mean():
    assert running_mean(np.array([1.0, np.nan, 3.0])).tolist() == [1, 1, 2]
    assert running_mean(np.array([np.nan, 4.0])).tolist() == [0, 4]
    assert running_mean(np.array([np.nan, np.nan])).tolist() == [1, 1]


def test_average_precision_clips_low_precision():
    assert average_precision(np.full(101, 0.1), 0.1, 0.1) == 0.0
    assert average_precision(np.full(101, 0.55), 0.1, 0.1) == pytest.approx(0.5)


def test_angles():
    a = angle_between(np.array([3.0, 0.1]), np.array([-3.0, 0.1 + math.pi]), 2 * math.pi)
    assert a == pytest.approx([2 * math.pi - 6, math.pi])
    assert angle_between(np.array([0.1]), np.array([0.1 + math.pi]), math.pi) == pytest.approx([0], abs=1e-12)
    assert yaw_of_quaternions([[2 * math.cos(0.4), 0, 0, 2 * math.sin(0.4)]]) == pytest.approx([0.8])


@pytest.mark.parametrize('seed', range(5))
def test_matching_equals_its_reference(seed):
    rng = np.random.default_rng(seed)
    gt_sample = np.sort(rng.integers(0, 4, 30))
    gt_xy = rng.integers(-4, 4, (30, 2)).astype(float)
    start = np.searchsorted(gt_sample, np.arange(5))
    pred_sample, pred_xy = rng.integers(0, 4, 60).astype(np.int32), rng.integers(-4, 4, (60, 2)) + 0.25
    args = (pred_sample, pred_xy, gt_xy, start, np.array([0.5, 1, 2, 4.0]))
    np.testing.assert_array_equal(match_class(*args), match_class_reference(*args))


def test_a_custom_split_is_read_as_the_devkit_reads_it(official, results_from_truth, tmp_path):
    """Ties are broken in the order of the sample table, and samples outside the split do not matter."""
    from tests.evaluation.conftest import write_tables
    root = write_tables(tmp_path, samples=4, seed=5)
    (root / 'v1.0-mini' / 'splits.json').write_text('{"mine": ["scene-0916"]}')
    whole = GroundTruth.from_tables(root, 'v1.0-mini', 'mini_val')
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(results_from_truth(whole, noise=0.3, copies=2, scores=2)))

    results, truth = read_detection_results(path), GroundTruth.from_tables(root, 'v1.0-mini', 'mine')
    theirs = official(root, path, tmp_path / 'out', 'mine')
    assert theirs['nd_score'] > 0.05
    assert_same(score_detection(results, truth).summary(), {name: theirs[name] for name in FIELDS})

    lost = json.loads(path.read_text())
    del lost['results'][truth.tokens[0]]
    with pytest.raises(ResultError, match=f'1 of 4 samples are missing, the first is "{truth.tokens[0]}"'):
        score_detection(detection_results_from(lost), truth)
    with pytest.raises(ResultError, match='4 sample tokens are not in this split'):
        score_detection(results, GroundTruth(truth.tokens, truth.ego_S3, truth.boxes))
