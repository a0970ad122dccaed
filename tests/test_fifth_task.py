"""A fifth task, written wholly in this file: trained, evaluated, resumed, stored, drawn and exported like the
four built-in ones, without a change in the package.

The task: how bright the images of a frame are, one number from 0 to 1.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perception.core.config import read_config
from perception.core.contracts import Annotations, Frame, TaskOutput
from perception.datasets.reading.dataset import NuScenesDataset
from perception.evaluation import ScoreTable, TaskMetric
from perception.heads.base import TaskHead
from perception.registry import DATASETS, FUNCTIONS, MODELS, TASK_LAYERS, TASK_METRICS
from perception.visualization import DrawingOptions, TaskLayer

DEBUG = Path(__file__).resolve().parents[1] / 'configs' / 'debug.py'
SCORE = 'brightness/within_0.2'


# -------------------------------------------------------------------- the task

@dataclass(frozen=True)
class Brightness:
    """Prediction and label: mean of all pixels, 0..1."""

    mean: float


class BrightWorld(NuScenesDataset):
    """A dataset with one more label per frame."""

    def load_annotations(self, frame: Any, scene_map: Any) -> Annotations | None:
        labels = super().load_annotations(frame, scene_map)
        images = self.load_sample(frame).camera.images_NHW3
        return replace(labels, extra={'brightness': Brightness(float(images.mean()) / 255)})


class BrightnessHead(TaskHead):
    """The mean of the BEV map through one linear layer."""

    task = 'brightness'

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, 1)

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        return {'mean': self.linear(bev_BCYX.mean((2, 3))).sigmoid()}

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> Tensor:
        labels = [labels.get('brightness') for labels in annotations]
        values = [float('nan') if label is None else label.mean for label in labels]
        return torch.tensor(values, device=device)[:, None]

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        error = (raw['mean'] - targets.nan_to_num()).abs()
        return {'absolute': (error * ~targets.isnan()).mean()}

    def decode(self, raw: dict[str, Tensor]) -> list[Brightness]:
        return [Brightness(mean) for mean in raw['mean'][:, 0].tolist()]


@dataclass(frozen=True)
class BrightnessError:
    """What one sample adds to the scores."""

    error: float


class BrightnessMetric(TaskMetric):
    """How often the prediction is nearly right."""

    task = 'brightness'
    prediction = Brightness
    summary = BrightnessError
    headline = {'brightness': SCORE}
    tables = (ScoreTable('brightness', ('within_0.2', 'MAE'), lower_is_better=('MAE',)),)

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> BrightnessError | None:
        prediction = output.get(self.task)
        label = truth and truth.get(self.task)
        if prediction is None or label is None:
            return None
        return BrightnessError(abs(prediction.mean - label.mean))

    def accumulate(self, samples: Sequence[tuple[Frame, BrightnessError | None]]) -> np.ndarray | None:
        errors = [summary.error for _, summary in samples if summary is not None]
        return np.array(errors) if errors else None

    def scores(self, total: np.ndarray) -> dict[str, float]:
        return {SCORE: float((total < 0.2).mean()), 'brightness/MAE': float(total.mean())}


@dataclass(frozen=True)
class BrightnessLayer(TaskLayer):
    """A grey square in the corner of the view from above."""

    title = 'brightness'
    mean: float

    @classmethod
    def from_prediction(cls, prediction: Brightness, options: DrawingOptions) -> BrightnessLayer:
        return cls(prediction.mean)

    from_truth = from_prediction

    def draw_on_bev(self, canvas: Any) -> None:
        canvas.image[:20, :20] = round(255 * self.mean)


@pytest.fixture(scope='module', autouse=True)
def registered() -> Iterator[None]:
    """What `@MODELS.register_module()` over the classes does in a user's file; undone after these tests."""
    entries = (
        (DATASETS, 'BrightWorld', BrightWorld), (MODELS, 'BrightnessHead', BrightnessHead),
        (TASK_METRICS, 'brightness', BrightnessMetric), (TASK_LAYERS, 'brightness', BrightnessLayer))
    for registry, name, kind in entries:
        registry.register_module(name, module=kind)
    yield
    for registry, name, _ in entries:
        registry.module_dict.pop(name)


# -------------------------------------------------------------------- the whole line

CONFIG = f'''
_base_ = ['{DEBUG}']
tasks = ('detection', 'brightness')
model = dict(heads=dict(brightness=dict(type='BrightnessHead', in_channels=32)))
train_dataloader = dict(batch_size=1, dataset=dict(type='BrightWorld'))
val_dataloader = dict(dataset=dict(type='BrightWorld'))
test_dataloader = dict(dataset=dict(type='BrightWorld'))
train_cfg = dict(max_epochs=1, val_interval=1)
custom_hooks = []
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
'''


@dataclass(frozen=True)
class Line:
    """A trained model, its test and where all of it lies."""

    folder: Path
    config: Path
    world: Path
    scores: dict[str, float]

    @property
    def options(self) -> dict[str, Any]:
        """The tiny world for every loader, and the folder of results."""
        roots = {f'{name}_dataloader.dataset.root': str(self.world) for name in ('train', 'val', 'test')}
        return roots | {'test_evaluator.results_dir': str(self.folder / 'results')}

    @property
    def checkpoint(self) -> Path:
        return self.folder / 'train' / 'epoch_1.pth'

    def runner(self, name: str, **words: Any) -> Any:
        from perception.training.launch import build_runner
        options = {**self.options, **words.pop('options', {})}
        return build_runner(self.config, work_dir=self.folder / name, options=options, **words)

    def resume_test(self) -> tuple[str, dict[str, float]]:
        """Test as `tools/test.py` does: the message about stored samples, and the scores."""
        from perception.evaluation.storage.resume import describe_run, resume_test
        runner = self.runner('test', checkpoint=self.checkpoint)
        message = resume_test(runner, describe_run(runner.cfg, self.checkpoint))
        return message, runner.test()


@pytest.fixture(scope='module')
def line(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory, registered: None) -> Line:
    folder = tmp_path_factory.mktemp('fifth')
    config = folder / 'brightness.py'
    config.write_text(CONFIG)

    untested = Line(folder, config, tiny_world, {})
    untested.runner('train', seed=1).train()
    return replace(untested, scores=untested.resume_test()[1])


def logged(line: Line, key: str) -> list[float]:
    """A value of every row of the training's logs."""
    files = sorted((line.folder / 'train').glob('*/vis_data/scalars.json'))
    rows = [json.loads(row) for file in files for row in file.read_text().splitlines()]
    return [row[key] for row in rows if key in row]


@pytest.fixture(scope='module')
def batch(line: Line) -> Mapping[str, Any]:
    """The first test sample and its labels, collated."""
    config = read_config(line.config, line.options)
    collate = dict(config.test_dataloader.collate_fn)
    return FUNCTIONS.get(collate.pop('type'))([DATASETS.build(config.test_dataloader.dataset)[0]], **collate)


@pytest.fixture(scope='module')
def model(line: Line) -> Any:
    """The trained model in evaluation mode."""
    from perception.deployment.deployed import build_model
    return build_model(read_config(line.config).model.to_dict(), line.checkpoint)


def test_it_trains_and_is_validated(line: Line) -> None:
    assert len(logged(line, 'loss/brightness/absolute')) >= 1
    assert logged(line, SCORE) == [pytest.approx(line.scores[SCORE])]
    assert 0 <= line.scores['brightness/MAE'] <= 1 and 'detection/NDS' in line.scores


def test_training_resumes(line: Line) -> None:
    runner = line.runner('train', resume='auto', options={'train_cfg.max_epochs': 2})
    runner.train()
    assert runner.iter == 6 and len(logged(line, SCORE)) == 2


def test_a_stopped_test_resumes_from_what_is_stored(line: Line) -> None:
    stored = sorted((line.folder / 'results' / 'samples').glob('*.npz'))
    assert len(stored) == 3 and 'brightness.mean' in np.load(stored[0]).files
    stored[0].unlink()
    message, scores = line.resume_test()
    assert '2 of 3 samples have a result' in message and scores == line.scores


def test_a_stopped_corruption_row_resumes_from_summaries(line: Line, tmp_path: Path) -> None:
    from perception.evaluation.storage.summaries import SummaryStore
    from perception.evaluation.suite import MetricSuite
    suite, store = MetricSuite(('brightness',)), SummaryStore(tmp_path)
    frame, labels = Frame('a', 0, np.eye(4)), Annotations('a', extra={'brightness': Brightness(0.5)})
    store.write(suite.summarise(TaskOutput.of(frame, {'brightness': Brightness(0.25)}), labels))
    assert suite.report([store.read('a')]).metrics == {SCORE: 0.0, 'brightness/MAE': 0.25}


def test_stored_results_are_evaluated_without_the_model(line: Line) -> None:
    from perception.evaluation.evaluate import Split, evaluate
    from perception.evaluation.reports.table import format_scores
    loader = read_config(line.config, line.options).test_dataloader
    split = Split(line.world, 'v1.0-trainval', 'val', DATASETS.build(loader.dataset).annotations_of)
    scores = evaluate(line.folder / 'results', split).metrics
    assert {name: scores[name] for name in line.scores if name.startswith('brightness/')} == {
        name: value for name, value in line.scores.items() if name.startswith('brightness/')}
    assert 'within_0.2' in format_scores(scores)


def test_it_is_drawn(batch: Mapping[str, Any], model: Any) -> None:
    from perception.visualization import draw_bev, layers_of_output, layers_of_truth
    with torch.no_grad():
        output, = model(**model.data_preprocessor(batch), mode='predict')
    predicted, true = layers_of_output(output), layers_of_truth(batch['data_samples'][0])
    for layers, mean in ((predicted, output.get('brightness').mean), (true, true[-1].mean)):
        assert isinstance(layers[-1], BrightnessLayer)
        assert (draw_bev(layers)[:20, :20] == round(255 * mean)).all()


def test_it_is_exported_and_runs_in_an_engine(
    line: Line, batch: Mapping[str, Any], model: Any, tmp_path: Path
) -> None:
    from perception.deployment.deployed import DeployedModel
    from perception.deployment.export.network import export_network, plain
    inputs = model.data_preprocessor(batch)['inputs']
    sidecar = export_network(model, inputs, tmp_path, plain(read_config(line.config).model.to_dict()))
    assert 'brightness.mean' in [spec.name for spec in sidecar.outputs]

    served, = DeployedModel.open(tmp_path, 'onnxruntime')(inputs)
    with torch.no_grad():
        expected, = model(inputs, mode='predict')
    assert served.get('brightness').mean == pytest.approx(expected.get('brightness').mean, abs=1e-4)
