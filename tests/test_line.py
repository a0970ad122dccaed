"""The whole line: sensors in, four tasks out, scored and drawn; on the tiny world and on real frames."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.core.config import read_config
from perception.core.contracts import TaskOutput
from perception.core.protocols import CAMERAS, TASKS
from perception.datasets.reading.dataset import NuScenesDataset
from perception.registry import DATASETS, FUNCTIONS, MODELS, without_pretrained
from perception.training.launch import build_runner

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


# -------------------------------------------------------------------- the tiny world

@pytest.fixture(scope='module')
def line(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Two epochs with a validation, weights averaged; then the checkpoint tested, results written.

    Returns:
        The folder, and the test's scores.
    """
    folder = tmp_path_factory.mktemp('line')
    options = {f'{name}_dataloader.dataset.root': str(tiny_world) for name in ('train', 'val', 'test')} | {
        'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 2,
        'custom_hooks': [{'type': 'EMAHook', 'momentum': 0.5}, {'type': 'LoaderWaitHook'}],
        'default_hooks.logger.interval': 1, 'test_evaluator.results_dir': str(folder / 'results')}
    build_runner(CONFIGS / 'debug.py', work_dir=folder / 'train', options=options, seed=1).train()

    tester = build_runner(
        CONFIGS / 'debug.py', work_dir=folder / 'test', options=options,
        checkpoint=folder / 'train' / 'epoch_2.pth')
    return folder, tester.test()


def logged(folder: Path) -> list[dict]:
    file, = (folder / 'train').glob('*/vis_data/scalars.json')
    return [json.loads(row) for row in file.read_text().splitlines()]


SCORES = ('detection/NDS', 'map/mIoU', 'occupancy/mIoU_camera', 'lanes/mAP')


def test_the_test_of_a_checkpoint_gives_the_scores_of_its_validation(line) -> None:
    """Nothing is lost on the way through the file, which holds the averaged weights that were validated."""
    folder, tested = line
    validated = next(row for row in logged(folder) if 'detection/NDS' in row)
    for name in SCORES:
        assert 0 <= tested[name] <= 1
        assert validated[name] == pytest.approx(tested[name], abs=1e-4), name


def test_the_averaged_weights_are_not_the_trained_ones(line) -> None:
    checkpoint = torch.load(line[0] / 'train' / 'epoch_2.pth', weights_only=False)
    averaged = {name.removeprefix('module.'): value for name, value in checkpoint['ema_state_dict'].items()}
    weights = checkpoint['state_dict']
    same = [
        name
        for name, value in weights.items()
        if value.is_floating_point() and torch.equal(value, averaged[name])
    ]
    assert len(same) < len(weights) / 2


def test_the_loss_falls_and_the_loaders_wait_is_logged(line) -> None:
    rows = [row for row in logged(line[0]) if 'loss' in row]
    # in six steps the map learns; the lanes' points follow the frames that come by
    of_map = [row['loss/map_segmentation/focal'] for row in rows]
    assert len(rows) == 6 and of_map[-1] < 0.99 * of_map[0]
    assert all(0 <= row['loader_wait_share'] <= 1 for row in rows)


def test_the_results_are_official_files_of_every_task(line, tiny_world: Path) -> None:
    folder = line[0] / 'results'
    dataset = DATASETS.build(
        {**read_config(CONFIGS / 'debug.py').test_dataloader.dataset, 'root': str(tiny_world)}
    )
    tokens = set(dataset.tokens)
    detections, lanes = (
        json.loads((folder / name).read_text())['results'] for name in ('results_nusc.json', 'lanes.json')
    )
    assert set(detections) == {sample['sample_token'] for sample in lanes} == tokens
    for task in ('map', 'occupancy'):
        assert {path.stem for path in (folder / task).glob('*.npz')} == tokens


# -------------------------------------------------------------------- real frames

# all sensors; cameras and an old sweep
REAL_TOKENS = ('3e8750f331d7499e9b5123e9eb70f2e2', '3950bd41f74548429c0f7700ff3d8269')


def real_pairs(name: str, real_frames: Path, infos: Path) -> tuple[NuScenesDataset, list, object]:
    """A configuration's own test data on the real frames.

    Returns:
        The dataset, the pairs of `REAL_TOKENS`, the configuration.
    """
    config = read_config(CONFIGS / name)
    dataset = DATASETS.build(
        {
            **config.test_dataloader.dataset, 'root': str(real_frames), 'infos': str(infos),
            'version': 'v1.0-mini', 'split': 'mini_val'}
    )
    return dataset, [dataset[dataset.tokens.index(token)] for token in REAL_TOKENS], config


def predictions(config: object, pairs: list) -> list[TaskOutput]:
    """What the configuration's model with random weights predicts."""
    torch.manual_seed(0)
    model = MODELS.build(without_pretrained(config.model.to_dict())).eval()
    options = dict(config.test_dataloader.collate_fn)
    batch = FUNCTIONS.get(options.pop('type'))(pairs, **options)
    with torch.no_grad():
        return model(**model.data_preprocessor(batch), mode='predict')


def check_output(output: TaskOutput, lane_points: int = 20, lanes_ahead_m: float = 0.0) -> None:
    """Documented shapes, finite numbers; `lanes_ahead_m`: centre of the lanes' range on ego's x axis."""
    assert all(getattr(output, task) is not None for task in TASKS)
    assert output.detection.boxes_M9.shape[1] == 9 and np.isfinite(output.detection.boxes_M9).all()
    map_6YX = output.map_segmentation.probabilities_6YX
    assert map_6YX.shape == (6, 200, 200) and (map_6YX >= 0).all() and (map_6YX <= 1).all()
    assert output.occupancy.semantics_XYZ.shape == (200, 200, 16)
    assert output.occupancy.semantics_XYZ.max() < 18
    assert output.lanes.points_LP2.shape[1:] == (lane_points, 2)
    assert np.isfinite(output.lanes.points_LP2).all()
    assert (np.abs(output.lanes.points_LP2 - [lanes_ahead_m, 0.0]) <= [30.001, 15.001]).all()


def test_the_debug_model_takes_real_frames(real_frames: Path, real_infos: Path, tmp_path: Path) -> None:
    """A frame with everything and one without a LiDAR key frame, in one batch; drawn beside the truth."""
    from perception.visualization import draw_frame, layers_of_output, layers_of_truth, write_image
    _, pairs, config = real_pairs('debug.py', real_frames, real_infos)
    outputs = predictions(config, pairs)
    assert [output.frame.token for output in outputs] == list(REAL_TOKENS)
    for output, (sample, labels) in zip(outputs, pairs, strict=True):
        check_output(output)
        layers = layers_of_output(output, 0.0), layers_of_truth(labels)
        picture = draw_frame(sample, *layers, sample.frame.scene)
        assert picture.ndim == 3 and picture.shape[1] > 900
        assert len(np.unique(picture.reshape(-1, 3)[::97], axis=0)) > 200
        assert write_image(tmp_path / f'{output.frame.token}.png', picture).stat().st_size > 50_000


def test_the_flagship_takes_a_real_frame_at_full_size(real_frames: Path, real_infos: Path) -> None:
    """ResNet-50, six images of 256 x 704, all LiDAR sweeps that are there, four tasks; random weights."""
    dataset, pairs, config = real_pairs('nuscenes/camera_lidar.py', real_frames, real_infos)
    sample = pairs[0][0]
    assert sample.camera.images_NHW3.shape == (6, 256, 704, 3) and sample.camera.present_N.all()
    assert sample.camera.names == CAMERAS and len(sample.lidar.points_P6) > 15_000
    assert dataset.reading.lidar_sweeps == 9
    output, = predictions(config, pairs[:1])
    check_output(output, lanes_ahead_m=1.0)  # around the LiDAR, as the published protocol has it
    assert len(output.lanes.points_LP2) == 50 and set(output.lanes.labels_L) <= set(range(4))


@pytest.mark.parametrize(
    'name', ['nuscenes/camera.py', 'nuscenes/lidar.py', 'world/camera.py', 'world/lidar.py']
)
def test_variants_load_and_collate_their_own_sensors(name: str) -> None:
    config = read_config(CONFIGS / name)
    sensor = Path(name).stem
    assert [other for other, encoder in config.model.encoders.items() if encoder is not None] == [sensor]
    for loader in (config.val_dataloader, config.test_dataloader):
        assert list(loader.collate_fn.sensors) == list(loader.dataset.sensors) == [sensor]
    # depth learns from the LiDAR
    for part in (config.train_dataloader.collate_fn, config.train_dataloader.dataset):
        assert set(part.sensors) == {sensor, 'lidar'}


@pytest.mark.parametrize('task', TASKS)
def test_single_task_references_load_that_task(task: str) -> None:
    config = read_config(CONFIGS / f'ablations/{task}.py')
    assert [name for name, head in config.model.heads.items() if head is not None] == [task]
    for part in (
        config.train_dataloader.dataset, config.val_dataloader.dataset, config.test_dataloader.dataset,
        config.val_evaluator, config.test_evaluator):
        assert list(part.tasks) == [task] and part.type in ('NuScenesDataset', 'MultiTaskMetric')
