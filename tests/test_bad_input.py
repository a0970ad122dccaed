"""What a drive throws at the line: each damage goes through dataset, collate, loss and predict, and is masked
or refused."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from perception.core.checkpoint import load_weights
from perception.core.config import read_config
from perception.core.contracts import Annotations, BoxLabels, Sample
from perception.core.protocols import CAMERAS, TASKS
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.reading.io import BadFile
from perception.model import MultiTaskPerception
from perception.registry import DATASETS, FUNCTIONS, MODELS

DEBUG = Path(__file__).resolve().parents[1] / 'configs' / 'debug.py'


@pytest.fixture(scope='module')
def config() -> object:
    return read_config(DEBUG)


@pytest.fixture(scope='module')
def model(config) -> MultiTaskPerception:
    torch.manual_seed(0)
    return MODELS.build(config.model.to_dict())


@pytest.fixture
def world(tiny_world: Path, tmp_path: Path) -> Path:
    """A copy of the tiny world whose files may be damaged: hard links, so that copying costs nothing."""
    return Path(shutil.copytree(tiny_world, tmp_path / 'world', copy_function=os.link))


@pytest.fixture
def open_dataset(config, world: Path) -> Callable[..., NuScenesDataset]:
    def opened(bad_file: str = 'mask', **options: object) -> NuScenesDataset:
        dataset = config.train_dataloader.dataset
        reading = {**dataset.reading, 'bad_file': bad_file}
        return DATASETS.build({**dataset, 'root': str(world), 'reading': reading, **options})

    return opened


def batch_of(config, pairs: list) -> dict:
    options = dict(config.train_dataloader.collate_fn)
    return FUNCTIONS.get(options.pop('type'))(pairs, **options)


def sensor_files(dataset: NuScenesDataset, index: int = 0) -> dict[str, Path]:
    """{channel: file} of one frame."""
    record = dataset.record(dataset.tokens[index])
    files = {name: camera.file for name, camera in record.cameras.items()}
    files['LIDAR_TOP'] = record.lidar[0].file
    return {name: dataset.root / file for name, file in files.items()}


def rewrite(path: Path, data: bytes) -> None:
    """Other content without touching what the hard link shares."""
    path.unlink()
    path.write_bytes(data)


def cloud(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), '<f4').reshape(-1, 5).copy()


# -------------------------------------------------------------------- one damage, one line

def all_cameras(files: dict[str, Path], change: Callable[[Path], None]) -> None:
    for name in CAMERAS:
        change(files[name])


def with_nan(path: Path) -> None:
    points = cloud(path)
    points[::3] = np.nan
    points[1::3, 2] = np.inf
    rewrite(path, points.tobytes())


def far_away(path: Path) -> None:
    points = cloud(path)
    points[:, :2] = 500.0
    rewrite(path, points.tobytes())


def one_point(path: Path) -> None:
    points = cloud(path)
    rewrite(
        path, points[(np.abs(points[:, :2]) > 5).all(1) & (np.abs(points[:, :2]) < 20).all(1)][:1].tobytes()
    )


def other_size(path: Path) -> None:
    rewrite(path, cv2.imencode('.jpg', np.zeros((90, 120, 3), np.uint8))[1].tobytes())


@dataclass(frozen=True)
class Case:
    """A damage to the files of one frame, and the presence flags it must end in: six cameras, then the
    LiDAR."""

    name: str
    damage: Callable[[dict[str, Path]], None]
    cameras: int = 6
    lidar: bool = True
    reason: str | None = None  # of the error with bad_file='raise'; None where the file is sound

    def __str__(self) -> str:
        return self.name


CASES = [
    Case('missing camera', lambda f: f['CAM_FRONT'].unlink(), cameras=5, reason='no such file'),
    Case('all cameras missing', lambda f: all_cameras(f, Path.unlink), cameras=0, reason='no such file'),
    Case(
        'corrupt JPEG', lambda f: rewrite(f['CAM_BACK'], b'\xff\xd8 this is no picture \xff\xda\xff\xd9'),
        cameras=5, reason='expected a JPEG or PNG'),
    Case(
        'JPEG cut short', lambda f: rewrite(f['CAM_BACK'], f['CAM_BACK'].read_bytes()[:-400]), cameras=5,
        reason='ends early'),
    Case('JPEG of zero bytes', lambda f: rewrite(f['CAM_BACK'], b''), cameras=5, reason='zero bytes'),
    Case(
        'wrong-size image', lambda f: other_size(f['CAM_FRONT_LEFT']), cameras=5,
        reason='image of 120 x 90 pixels'),
    Case('missing LiDAR', lambda f: f['LIDAR_TOP'].unlink(), lidar=False, reason='no such file'),
    Case(
        'truncated .bin', lambda f: rewrite(f['LIDAR_TOP'], f['LIDAR_TOP'].read_bytes()[:-7]), lidar=False,
        reason='cut short'),
    Case('.bin of zero bytes', lambda f: rewrite(f['LIDAR_TOP'], b''), lidar=False, reason='zero bytes'),
    Case('NaN points', lambda f: with_nan(f['LIDAR_TOP'])),
    Case('empty cloud', lambda f: far_away(f['LIDAR_TOP'])),
    Case('cloud of one point', lambda f: one_point(f['LIDAR_TOP'])),
    Case(
        'nothing at all', lambda f: [path.unlink() for path in f.values()], cameras=0, lidar=False,
        reason='no such file'),
]


def check_step(model: MultiTaskPerception, batch: dict) -> None:
    """Loss, gradient, statistics and prediction are numbers."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train().zero_grad()
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert {name.split('/')[1] for name in losses} >= set(TASKS)
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert [name for name, value in model.state_dict().items() if not value.isfinite().all()] == []
    model.load_state_dict(state)
    with torch.no_grad():
        for output in model.eval()(**model.data_preprocessor(batch), mode='predict'):
            assert np.isfinite(output.detection.boxes_M9).all()
            assert np.isfinite(output.detection.scores_M).all()
            assert np.isfinite(output.map_segmentation.probabilities_6YX).all()
            assert np.isfinite(output.lanes.points_LP2).all()
            assert output.occupancy.semantics_XYZ.max() < 18


@pytest.mark.parametrize('case', CASES, ids=str)
def test_damage_is_masked_and_the_model_goes_on(case: Case, config, model, open_dataset) -> None:
    dataset = open_dataset()
    case.damage(sensor_files(dataset))
    sample, annotations = dataset[0]
    batch = batch_of(config, [(sample, annotations)])
    assert int(batch['inputs'].camera_present_BN.sum()) == case.cameras
    assert batch['inputs'].lidar_present_B.tolist() == [case.lidar]
    assert dataset.bad_files == 6 - case.cameras + (not case.lidar)
    assert len(sample.left_out) == dataset.bad_files
    assert all(points.isfinite().all() for points in batch['inputs'].lidar_points)
    check_step(model, batch)


@pytest.mark.parametrize('case', [c for c in CASES if c.reason], ids=str)
def test_damage_stops_or_gives_the_next_sample_where_that_is_wanted(case: Case, open_dataset) -> None:
    dataset, strict = open_dataset(bad_file='skip'), open_dataset(bad_file='raise')
    files = sensor_files(dataset)
    case.damage(files)
    with pytest.raises(BadFile, match=case.reason) as error:
        strict[0]
    assert error.value.path in {str(path) for path in files.values()}
    assert dataset[0][0].frame.token == dataset.tokens[1] and dataset.bad_files == 1


@pytest.mark.parametrize(('damage', 'count'), [(far_away, 0), (one_point, 1)])
def test_thin_clouds_are_present(damage, count, open_dataset) -> None:
    dataset = open_dataset()
    damage(sensor_files(dataset, 1)['LIDAR_TOP'])
    found = [len(dataset[i][0].lidar.points_P6) for i in range(3)]
    assert found[1] == count and min(found[0], found[2]) > 1000 and dataset.bad_files == 0


def test_points_that_no_sensor_measures_are_dropped_and_counted(open_dataset) -> None:
    dataset = open_dataset()
    path = sensor_files(dataset)['LIDAR_TOP']
    points = cloud(path)
    points[:10, 3], points[10:13, 0] = 1e30, -1e9
    rewrite(path, points.tobytes())
    sample, _ = dataset[0]
    assert dataset.dropped_points >= 13 and dataset.bad_files == 0
    assert sample.lidar.points_P6[:, 3].max() <= 255 and np.abs(sample.lidar.points_P6).max() < 2000


@pytest.mark.parametrize('bad_file', ['mask', 'skip', 'raise'])
def test_a_damaged_map_is_one_bad_file(bad_file: str, world: Path, open_dataset) -> None:
    dataset = open_dataset(bad_file)
    path = next(dataset.folder.glob(f'{dataset.record(dataset.tokens[0]).scene}.map.npz'))
    rewrite(path, path.read_bytes()[:-30])
    dataset = open_dataset(bad_file)
    if bad_file == 'mask':
        annotations = dataset[0][1]
        assert annotations.map_layers is None and annotations.boxes is not None and dataset.bad_files == 1
    else:
        with pytest.raises(BadFile, match='no sample of the split|map.npz: cannot be read'):
            dataset[0]


# -------------------------------------------------------------------- labels

NO_BOXES = BoxLabels(np.zeros((0, 9), np.float32), *(np.zeros(0, np.int64) for _ in range(5)))


@pytest.mark.parametrize(
    'change',
    [
        lambda a: replace(a, boxes=NO_BOXES), lambda a: replace(a, boxes=None),
        lambda a: replace(a, occupancy=None), lambda a: replace(a, map_layers=None),
        lambda a: replace(a, lanes=None), lambda a: Annotations(a.token)],
    ids=['no boxes in sight', 'boxes not labelled', 'no occupancy', 'no map', 'no lanes', 'nothing labelled'],
)
def test_labels_that_are_not_there_cost_nothing(change, config, model, open_dataset) -> None:
    sample, annotations = open_dataset()[0]
    check_step(model, batch_of(config, [(sample, change(annotations))]))


def test_an_unlabelled_task_has_a_loss_of_zero(config, model, open_dataset) -> None:
    sample, annotations = open_dataset()[0]
    batch = batch_of(config, [(sample, Annotations(annotations.token))])
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    assert all(float(value.detach()) == 0 for name, value in losses.items() if name.split('/')[1] in TASKS)


def test_a_damaged_sample_leaves_its_neighbour_in_the_batch_alone(config, model, open_dataset) -> None:
    dataset = open_dataset(test_mode=True)  # a training set draws another augmentation at every reading
    alone = batch_of(config, [dataset[1]])
    for path in sensor_files(dataset, 0).values():
        path.unlink()
    together = batch_of(config, [dataset[0], dataset[1]])
    with torch.no_grad():
        model.eval()
        expected = model(model.data_preprocessor(alone)['inputs'])
        found = model(model.data_preprocessor(together)['inputs'])
    for name, value in expected.items():
        torch.testing.assert_close(found[name][1], value[0], rtol=1e-3, atol=1e-3)


# -------------------------------------------------------------------- a whole run, and refusals

def test_a_training_run_is_not_lost_to_bad_files(world: Path, tmp_path: Path) -> None:
    """One frame of three is unreadable in two ways: the epoch still has three steps, and the file is
    counted."""
    from perception.training.launch import build_runner
    roots = {f'{loader}_dataloader.dataset.root': str(world) for loader in ('train', 'val', 'test')}
    runner = build_runner(
        DEBUG,
        work_dir=tmp_path / 'run',
        options=roots
        | {
            'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 10,
            'custom_hooks': [], 'visualizer.vis_backends': [{'type': 'LocalVisBackend'}]},
    )
    dataset = runner.build_dataloader(runner._train_dataloader).dataset
    files = sensor_files(dataset, 2)
    rewrite(files['CAM_FRONT'], b'no picture')
    rewrite(files['LIDAR_TOP'], files['LIDAR_TOP'].read_bytes()[:-3])
    runner.train()
    assert runner.iter == 3
    assert runner.train_dataloader.dataset.bad_files == 1
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_a_split_without_any_readable_frame_says_so(open_dataset) -> None:
    dataset = open_dataset(bad_file='skip')
    for index in range(len(dataset)):
        sensor_files(dataset, index)['LIDAR_TOP'].unlink()
    with pytest.raises(BadFile, match="no sample of the split 'train' could be read"):
        dataset[0]


def refuse_key(folder: Path) -> None:
    (folder / 'wrong.py').write_text(f"_base_ = ['{DEBUG}']\ntrain_cgf = dict(max_epochs=3)\n")
    read_config(folder / 'wrong.py')


def refuse_option(folder: Path) -> None:
    read_config(DEBUG, {'train_dataloader.bach_size': 3})


def refuse_part(folder: Path) -> None:
    MODELS.build({**read_config(DEBUG).model.heads.lanes, 'decoder': {'instance': 3}})


def refuse_checkpoint(folder: Path) -> None:
    wide, narrow = (
        MODELS.build(read_config(DEBUG, {'model.heads.lanes.features.width': width}).model.to_dict())
        for width in (64, 32)
    )
    torch.save({'state_dict': wide.state_dict()}, folder / 'wide.pth')
    load_weights(narrow, folder / 'wide.pth')


def refuse_cut_checkpoint(folder: Path) -> None:
    torch.save({'state_dict': {'weight': torch.ones(9999)}}, folder / 'cut.pth')
    (folder / 'cut.pth').write_bytes((folder / 'cut.pth').read_bytes()[:3000])
    load_weights(torch.nn.Linear(1, 1), folder / 'cut.pth')


@pytest.mark.parametrize(('act', 'error', 'words'), [
    (refuse_key, ValueError, "wrong.py: unknown key 'train_cgf'; did you mean 'train_cfg'"),
    (refuse_option, ValueError, "has no 'bach_size' there; did you mean 'batch_size'"),
    (refuse_part, ValueError, "LaneHead.decoder: unknown option 'instance'; did you mean 'instances'"),
    (refuse_checkpoint, ValueError, r'wide.pth was made with another configuration.*heads\.lanes'),
    (refuse_cut_checkpoint, ValueError, 'cut.pth.*could not read')])
def test_what_does_not_fit_is_refused_by_name(act, error, words, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        act(tmp_path)


def test_a_frame_without_labels_costs_nothing(config, model, open_dataset) -> None:
    """Alone it has zero losses that still reach the weights; beside a labelled one it is masked."""
    sample: Sample = open_dataset()[0][0]
    batch = batch_of(config, [(sample, None)])
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    terms = {name: term for name, term in losses.items() if name.split('/')[1] in TASKS}
    assert {name.split('/')[1] for name in terms} == set(TASKS)
    assert all(term.item() == 0 and term.requires_grad for term in terms.values())
