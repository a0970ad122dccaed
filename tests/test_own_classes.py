"""Four classes of one's own through the whole line: labels, a step, scores, files, pictures, tracks."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perception.core.config import read_config
from perception.core.contracts import NUSCENES_CLASSES, Boxes3D, TaskOutput
from perception.datasets.reading.dataset import NuScenesDataset
from perception.evaluation.errors import ResultError
from perception.evaluation.evaluate import Split, evaluate, evaluate_official
from perception.evaluation.metrics import MultiTaskMetric
from perception.evaluation.reports.table import format_scores
from perception.registry import DATASETS, FUNCTIONS, METRICS, MODELS

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'world' / 'four_classes.py'
NAMES = ('vehicle', 'two_wheeler', 'pedestrian', 'static')


@pytest.fixture(scope='module')
def config(tiny_world: Path) -> Any:
    roots = {f'{name}_dataloader.dataset.root': str(tiny_world) for name in ('train', 'val')}
    return read_config(CONFIG, roots)


@pytest.fixture(scope='module')
def dataset(config: Any) -> NuScenesDataset:
    return DATASETS.build(config.val_dataloader.dataset)


@pytest.fixture(scope='module')
def model(config: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(config.model)


@pytest.fixture(scope='module')
def outputs(dataset: NuScenesDataset) -> list[TaskOutput]:
    """The labels of every validation frame as predictions, moved by a few centimetres."""
    found = []
    for sample, labels in dataset:
        boxes, rng = labels.boxes, np.random.default_rng(0)
        moved = boxes.boxes_M9 + rng.normal(0, 0.05, boxes.boxes_M9.shape).astype(np.float32)
        moved[:, 3:] = np.nan_to_num(boxes.boxes_M9[:, 3:])
        scores = rng.uniform(0.3, 1, len(moved)).astype(np.float32)
        found.append(TaskOutput(sample.frame, Boxes3D(
            moved, scores, boxes.labels_M, boxes.attributes_M, boxes.classes)))
    return found


@pytest.fixture(scope='module')
def results(config: Any, dataset: NuScenesDataset, outputs: list[TaskOutput], tmp_path_factory) -> Any:
    """The metric of the configuration after all frames, its folder of results beside it."""
    folder = tmp_path_factory.mktemp('four') / 'results'
    metric = METRICS.build({**config.val_evaluator, 'results_dir': folder})
    for output in outputs:
        labels = dataset.annotations_of(output.frame.token)
        metric.process({'data_samples': [labels]}, [output])
    return metric, metric.evaluate(len(outputs)), folder


def test_labels_are_those_of_the_annotated_categories(dataset: NuScenesDataset) -> None:
    expected = {'vehicle.car': 0, 'vehicle.bus.rigid': 0, 'vehicle.bicycle': 1, 'human.pedestrian.adult': 2,
                'movable_object.trafficcone': 3}
    seen = set()
    for number, token in enumerate(dataset.tokens):
        categories = dataset.record(token).boxes.categories
        labels = dataset.annotations_of(token).boxes
        kept = [name for name in categories if dataset.classes.label(name) >= 0]
        assert labels.classes.names == NAMES and len(kept) == len(labels.labels_M)
        for name, label in zip(kept, labels.labels_M.tolist(), strict=True):
            assert label == expected.get(name, label)
            seen.add(name)
        assert dataset.class_counts(number).tolist() == np.bincount(labels.labels_M, minlength=4).tolist()
    assert {'vehicle.car', 'human.pedestrian.adult'} <= seen


def test_a_step_learns_them_and_the_boxes_say_what_they_are(config: Any, dataset, model) -> None:
    pairs = [dataset[0]]
    batch = FUNCTIONS.get('collate')(pairs, sensors=('lidar',))
    inputs = model.data_preprocessor(batch, training=True)

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        terms = model(**inputs, mode='loss')
        loss = sum(terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]

    output = model.eval()(**inputs, mode='predict')[0]
    assert output.detection.classes.names == NAMES
    assert set(output.detection.labels_M.tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize('names', [NAMES[::-1], ('a', 'b', 'c', 'd')])
def test_weights_of_as_many_other_classes_are_refused(model, names, tmp_path: Path) -> None:
    """Every shape fits; what the trained labels meant does not."""
    from perception.core.checkpoint import load_weights
    from perception.training.start import start_from

    path = tmp_path / 'epoch_1.pth'
    content = {'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': names}}}
    torch.save(content, path)
    for load in (lambda: load_weights(model, path), lambda: start_from(model, {'file': str(path)})):
        with pytest.raises(ValueError, match=f'trained for boxes of the classes {names[0]}, .*vehicle, two'):
            load()

    # other parts may start from it, and its own classes load
    start_from(model, {'file': str(path), 'new': ['heads.detection.']})
    content['meta']['dataset_meta']['classes'] = NAMES
    torch.save(content, path)
    load_weights(model, path)


def test_near_labels_have_high_scores_class_by_class(results) -> None:
    metric, scores, _ = results
    present = [name for name in NAMES if scores[f'detection/AP_{name}'] > 0]
    assert {'vehicle', 'pedestrian'} <= set(present) and 'detection/AP_car' not in scores
    assert scores['detection/mAP_present_classes'] > 0.9 and scores['detection/NDS_present_classes'] > 0.9
    table = format_scores(scores)
    assert all(f'  {name} ' in table for name in NAMES) and 'car ' not in table


def test_results_say_their_classes_and_score_the_same_from_files(results, tiny_world: Path) -> None:
    """From the samples with the tables' truth, and from the merged file; no official code takes it."""
    _, scores, folder = results
    split = Split(tiny_world, 'v1.0-trainval', 'val')
    for written in (folder, folder / 'results_own_classes.json'):
        again = evaluate(written, split, tasks=('detection',)).metrics
        for name in ('detection/NDS', 'detection/AP_vehicle', 'detection/AP_static'):
            assert again[name] == pytest.approx(scores[name], abs=2e-3), (written, name)

    assert not (folder / 'results_nusc.json').exists()
    meta = json.loads((folder / 'results_own_classes.json').read_text(encoding='utf-8'))['meta']
    assert list(meta['detection_classes']) == [*NAMES]
    with pytest.raises(ResultError, match="its classes are not nuScenes' ten"):
        evaluate_official(folder, split)


def test_predictions_of_other_classes_are_refused(dataset: NuScenesDataset, outputs) -> None:
    boxes = replace(outputs[0].detection, classes=NUSCENES_CLASSES)
    labels = dataset.annotations_of(outputs[0].frame.token)
    with pytest.raises(ResultError, match='predicted boxes: found labels of the classes car, .*vehicle'):
        MultiTaskMetric(tasks=('detection',)).suite.summarise(replace(outputs[0], detection=boxes), labels)


def test_tables_with_the_configured_classes_are_the_truth(config: Any, tiny_world: Path, results) -> None:
    tables = dict(root=tiny_world, version='v1.0-trainval', split='val')
    metric = METRICS.build({**config.val_evaluator, **tables})
    assert metric.suite.metrics['detection'].truth.classes.names == NAMES


def test_a_picture_has_their_names_and_colours(dataset: NuScenesDataset, outputs) -> None:
    from perception.visualization import draw_frame, layers_of_output, layers_of_truth, palette

    colours = palette.detection_colours(outputs[0].detection.classes)
    assert colours['vehicle'] == palette.DETECTION['car'] and len(set(colours.values())) == 4
    layers = layers_of_output(outputs[0])
    assert [entry.name for entry in layers[0].legend()] == [*NAMES]

    picture = draw_frame(dataset[0][0], layers, layers_of_truth(dataset[0][1]))
    assert (picture == colours['pedestrian']).all(-1).sum() > 20


def test_tracks_follow_them(outputs, results, tiny_world: Path, capsys) -> None:
    from perception.cli.commands import main as perception
    from perception.tracking import FrameTracker

    tracker = FrameTracker()
    followed = [tracker(output).extra['tracking'] for output in outputs]
    assert tracker.tracker.options.gate_of_label() == (4.0, 13.0, 1.0, 1.0)
    assert set(followed[0].ids_M.tolist()) & set(followed[1].ids_M.tolist())

    # the command: tracked classes alone, and scored by the tables' truth
    where = ['--root', str(tiny_world), '--version', 'v1.0-trainval', '--split', 'val']
    assert perception(['track', str(results[2]), *where]) == 0
    report = evaluate(results[2] / 'tracks_nusc.json', Split(tiny_world, 'v1.0-trainval', 'val'))
    assert report.metrics['tracking/AMOTA_vehicle'] > 0.5
    assert 'tracking/AMOTA_static' not in report.metrics and 'tracking/AMOTA_car' not in report.metrics


def test_an_export_says_its_classes(config: Any) -> None:
    from perception.deployment.export.sidecar import classes_of

    plain = json.loads(json.dumps(config.model.to_dict(), default=str))
    assert classes_of(plain)['detection'] == NAMES
    assert classes_of({'heads': {}})['detection'] == NUSCENES_CLASSES.names


def test_a_category_that_no_box_of_the_infos_has_is_refused(config: Any) -> None:
    reading = {'classes': {'cart': {'categories': ['vehicle.car', 'vehicle.cart']}}, 'lidar_sweeps': 0}
    with pytest.raises(ValueError, match=r"cart.categories\[1\]: found 'vehicle.cart'.*mean 'vehicle.car'"):
        DATASETS.build({**config.val_dataloader.dataset, 'reading': reading})


def test_balanced_sampling_counts_them(config: Any, dataset: NuScenesDataset) -> None:
    from perception.datasets.reading.sampler import read_class_counts

    counts = read_class_counts(dataset)
    assert counts.shape == (3, 4) and (counts.sum(0)[[0, 2, 3]] > 0).all()
    assert dataset.get_cat_ids(0) == np.flatnonzero(counts[0]).tolist()
