"""One frame through `load_model`: what it predicts, that it is what the dataset's way gives, and what it
refuses."""
from __future__ import annotations

import re
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perception import load_model
from perception.api import Perception
from perception.api_arrays import lidar_points, radar_points
from perception.core.config import pipeline_transforms, read_config
from perception.core.contracts import Sample, TaskOutput
from perception.core.geometry import invert, make_transform, transform_points
from perception.core.lens import Distortion
from perception.core.protocols import CAMERAS, TASKS
from perception.datasets.reading.dataset import NuScenesDataset
from perception.deployment.vehicle.runtime import runtime_stages
from perception.fusion.memory.streams import WrongOrderError
from perception.registry import DATASETS, FUNCTIONS, MODELS

ROOT = Path(__file__).resolve().parents[1]
DEBUG = ROOT / 'configs' / 'debug.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    """Seeded random weights of the debug configuration; norms are moved, so that predictions are
    not empty."""
    torch.manual_seed(0)
    model = MODELS.build(read_config(DEBUG).model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.05)
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path


@pytest.fixture(scope='module')
def model(checkpoint) -> Perception:
    return load_model(DEBUG, checkpoint)


def make_dataset(root: Path, **changes) -> NuScenesDataset:
    """The dataset of the debug configuration's test."""
    return DATASETS.build({**read_config(DEBUG).test_dataloader.dataset, 'root': str(root), **changes})


@pytest.fixture(scope='module')
def world(tiny_world) -> NuScenesDataset:
    return make_dataset(tiny_world)


def as_words(sample: Sample) -> dict:
    """A raw sample as the arrays a user would have."""
    rig = sample.camera
    return dict(
        images=dict(zip(rig.names, rig.images_NHW3, strict=True)),
        K=dict(zip(rig.names, rig.K_N33, strict=True)),
        ego_T_cam=dict(zip(rig.names, rig.ego_T_cam_N44, strict=True)), points=sample.lidar.points_P6,
        token=sample.frame.token, timestamp_ns=sample.frame.timestamp_ns,
        global_T_ego=sample.frame.global_T_ego)


@pytest.fixture
def words(world) -> dict:
    return as_words(world.load(0)[0])


def assert_same(a: TaskOutput, b: TaskOutput) -> None:
    """Every array of two predictions is equal, bit for bit."""
    assert a.frame.token == b.frame.token
    for task in TASKS:
        one, other = getattr(a, task), getattr(b, task)
        assert (one is None) == (other is None), task
        for entry in fields(one) if one is not None else ():
            np.testing.assert_array_equal(
                getattr(one, entry.name), getattr(other, entry.name), err_msg=f'{task}.{entry.name}'
            )


def prediction_of_the_test_tool(checkpoint: Path, dataset: NuScenesDataset, index: int) -> TaskOutput:
    """The way of `tools/test.py`: the dataset's pair, the configuration's collate, the model, without the
    module under test."""
    config = read_config(DEBUG)
    built = MODELS.build(config.model).eval()
    built.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    collate = dict(config.test_dataloader.collate_fn)
    batch = FUNCTIONS.get(collate.pop('type'))([dataset[index]], **collate)
    with torch.no_grad():
        return built(**built.data_preprocessor(batch), mode='predict')[0]


# -------------------------------------------------------------------- what it predicts

def test_says_what_it_is(model):
    assert model.sensors == ('camera', 'lidar') and set(model.tasks) == set(TASKS)
    assert model.cameras == CAMERAS and model.image_size_hw == (64, 176) and model.lidar_sweeps == 0


def test_predicts_all_four_tasks_with_the_documented_shapes(model, words):
    prediction = model(**words)
    boxes, lanes = prediction.detection, prediction.lanes
    assert boxes.boxes_M9.shape == (len(boxes.scores_M), 9) and (np.diff(boxes.scores_M) <= 0).all()
    assert prediction.map_segmentation.probabilities_6YX.shape == (6, 200, 200)
    assert 0 <= prediction.map_segmentation.probabilities_6YX.min()
    assert prediction.map_segmentation.probabilities_6YX.max() <= 1
    semantics_XYZ = prediction.occupancy.semantics_XYZ
    assert semantics_XYZ.shape == (200, 200, 16) and semantics_XYZ.max() <= 17
    assert lanes.points_LP2.shape == (len(lanes.scores_L), 20, 2)
    assert prediction.frame.token == words['token'] and prediction.frame.timestamp_ns == words['timestamp_ns']
    np.testing.assert_array_equal(prediction.frame.global_T_ego, words['global_T_ego'])


def test_arrays_give_exactly_what_the_dataset_gives(model, checkpoint, world):
    for index in range(len(world)):
        expected = prediction_of_the_test_tool(checkpoint, world, index)
        assert_same(model(**as_words(world.load(index)[0])), expected)
        assert_same(model(world[index][0]), expected)


def test_sample_is_the_datasets_sample(model, world, words):
    ours, theirs = model.sample(**words), world[0][0]
    np.testing.assert_array_equal(ours.camera.images_NHW3, theirs.camera.images_NHW3)
    np.testing.assert_array_equal(ours.camera.K_N33, theirs.camera.K_N33)
    np.testing.assert_array_equal(ours.lidar.points_P6, theirs.lidar.points_P6)
    assert_same(model(ours), model(**words))


def test_lenses_travel_to_the_lift(model, words):
    record = {'model': 'kannala_brandt', 'coefficients': [0.1, 0, 0, 0]}
    sample = model.sample(**words, distortion={'CAM_BACK': record})
    assert sample.camera.distortions == tuple(
        Distortion(**record) if name == 'CAM_BACK' else None for name in model.cameras)
    same = model.sample(**words, distortion={'CAM_BACK': Distortion(**record)})
    assert same.camera.distortions == sample.camera.distortions

    bent, straight = model(sample), model(**words)
    assert not np.array_equal(
        bent.map_segmentation.probabilities_6YX, straight.map_segmentation.probabilities_6YX)


def test_what_is_seen_changes_the_prediction(model, words):
    prediction = model(**words)
    black = {name: np.zeros_like(image) for name, image in words['images'].items()}
    for other in ({**words, 'images': black}, {**words, 'points': words['points'][::3]}):
        assert not np.array_equal(
            model(**other).map_segmentation.probabilities_6YX, prediction.map_segmentation.probabilities_6YX
        )


def test_an_absent_sensor_is_what_the_test_tool_makes_of_it(model, checkpoint, tiny_world, words):
    drop = dict(type='SensorDropout', keep={'lidar': 1.0})
    pipeline = [*pipeline_transforms(read_config(DEBUG).test_dataloader.dataset.pipeline), drop]
    expected = prediction_of_the_test_tool(checkpoint, make_dataset(tiny_world, pipeline=pipeline), 0)
    lidar_only = {name: words[name] for name in ('points', 'token')}
    assert_same(model(**lidar_only), expected)
    assert model.sample(**lidar_only).camera is None
    camera_only = {name: value for name, value in words.items() if name != 'points'}
    assert model.sample(**camera_only).lidar is None
    assert model(**camera_only).detection is not None


def test_a_single_camera_that_is_not_given_is_absent(model, words):
    front = {name: {'CAM_FRONT': words[name]['CAM_FRONT']} for name in ('images', 'K', 'ego_T_cam')}
    sample = model.sample(**front)
    assert sample.camera.names == CAMERAS and sample.camera.present_N.tolist() == [True] + [False] * 5
    assert np.isfinite(model(sample).map_segmentation.probabilities_6YX).all()


def test_a_camera_that_the_tables_do_not_list_is_absent_too(model, world, words):
    record = world.record(world.tokens[0])
    cameras = {name: camera for name, camera in record.cameras.items() if name != 'CAM_BACK'}
    sample = world.load_sample(replace(record, cameras=cameras))
    given = {
        name: {camera: value for camera, value in words[name].items() if camera != 'CAM_BACK'}
        for name in ('images', 'K', 'ego_T_cam')}
    assert_same(model(model.prepare(sample)), model(**{**words, **given}))


def test_cameras_may_differ_in_size(model, words):
    tall = np.pad(words['images']['CAM_FRONT'], ((0, 40), (0, 0), (0, 0)))
    sample = model.sample(**{**words, 'images': {**words['images'], 'CAM_FRONT': tall}})
    assert sample.camera.image_size_hw == (64, 176) and sample.camera.present_N.all()
    np.testing.assert_array_equal(
        sample.camera.images_NHW3[1:], model.sample(**words).camera.images_NHW3[1:])


def test_cameras_of_another_make_keep_their_horizon(checkpoint, words):
    """Six of 1936 x 1216 (an eighth of it here): said once, in a record, and right for the network."""
    model = load_model(DEBUG, checkpoint)
    K = np.array([[248.0, 0, 120.5], [0, 248.0, 75.5], [0, 0, 1]])
    other = {'images': {name: np.full((152, 242, 3), 90, np.uint8) for name in CAMERAS},
             'K': dict.fromkeys(CAMERAS, K)}
    with pytest.warns(UserWarning, match='CAM_FRONT: 242 x 152 pixels, resized by .*lost, in degrees'):
        sample = model.sample(**words | other)

    height, width = model.image_size_hw
    view = model.views['CAM_BACK']
    scale = 1.0909 * width / 1600
    row = scale * 480.5 - 0.5 - (scale * 900 - height)
    assert list(model.views) == list(CAMERAS) and not view.as_trained and not view.horizon_lost
    assert view.horizon_row == pytest.approx(row) and view.focal_px == pytest.approx(1260 * scale)
    np.testing.assert_allclose(sample.camera.K_N33[:, 0, 0], 1260 * scale)
    assert model(sample).detection is not None

    model.sample(**words)
    assert all(found.as_trained for found in model.views.values())


def test_the_order_of_the_dictionaries_means_nothing(model, words):
    turned = {
        name: dict(reversed(value.items())) if isinstance(value, dict) else value
        for name, value in words.items()
    }
    assert_same(model(**turned), model(**words))


def test_the_predictions_order_is_the_pictures_order(model, words):
    sample = model.sample(**words)
    for i, name in enumerate(CAMERAS):
        assert (
            np.abs(sample.camera.images_NHW3[i].astype(int).mean() - words['images'][name].astype(int).mean())
            < 40
        )
        np.testing.assert_array_equal(sample.camera.ego_T_cam_N44[i], words['ego_T_cam'][name])


def test_the_example_of_the_readme_runs(checkpoint, tiny_world, tmp_path, monkeypatch, capsys):
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    example = re.search(r'```python\n(.*?)```', text, re.DOTALL).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    weights = re.search(r'work_dirs/demo/(epoch_\d+\.pth)', example)
    assert f"'{weights.group(1)}'" in (ROOT / 'perception' / 'cli' / 'demo.py').read_text(), (
        'the demo leaves its weights under another name'
    )
    places = {
        'configs/demo.py': DEBUG, weights.group(0): checkpoint, 'data/demo_world': tiny_world,
        'lidar_sweeps=4': 'lidar_sweeps=2'}  # of the tiny world
    for written, here in places.items():
        assert written in example
        example = example.replace(written, str(here))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, 'README.md', 'exec'), {})
    assert '(6, 200, 200)' in capsys.readouterr().out
    import cv2
    picture = cv2.imread('frame.png')
    assert picture.shape[1] >= 1200 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 500


# -------------------------------------------------------------------- points

def test_points_of_four_five_and_six_columns():
    rows = np.array([[5.0, 1, 0.5, 100, 7, 0.05], [-9, 2, 1, 3, 8, 0.1]])
    np.testing.assert_allclose(lidar_points(rows[:, :4]).points_P6[:, 4:], [[-1, 0], [-1, 0]])
    np.testing.assert_allclose(lidar_points(rows[:, :5]).points_P6[:, 4:], [[7, 0], [8, 0]])
    np.testing.assert_allclose(lidar_points(rows).points_P6, rows, rtol=1e-6)
    assert lidar_points(rows).points_P6.dtype == np.float32
    assert lidar_points(np.zeros((0, 4))).points_P6.shape == (0, 6)


def test_points_in_the_lidars_frame_move_to_ego_and_lose_the_car_itself(model, words):
    quarter_turn = make_transform(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 0, 1.8]))
    rows = np.array([[2.0, 0, -1, 50, 3, 0.05], [0.5, -0.9, 0, 50, 3, 0]])  # the second one is the roof
    moved = lidar_points(rows, quarter_turn, own_returns_m=1.0).points_P6
    np.testing.assert_allclose(moved, [[1, 2, 0.8, 50, 3, 0.05]], atol=1e-6)
    assert len(lidar_points(rows, quarter_turn).points_P6) == 2
    points = words['points'].copy()
    points[:, :3] = transform_points(invert(quarter_turn), points[:, :3].astype(np.float64))
    ours = model.sample(points=points, ego_T_lidar=quarter_turn).lidar.points_P6
    away = (np.abs(points[:, :2]) >= 1).any(1)
    np.testing.assert_allclose(ours, words['points'][away], atol=2e-5)


def test_rows_that_are_not_finite_are_dropped():
    rows = np.ones((3, 4))
    rows[1, 2] = np.nan
    assert len(lidar_points(rows).points_P6) == 2


def test_radars_by_name():
    found = radar_points(
        {'RADAR_BACK_LEFT': np.array([[1.0, 2, 0, 3, 4, 9, 0.1]]), 'RADAR_FRONT': np.zeros((0, 6))}
    )
    np.testing.assert_allclose(found.points_P8, [[1, 2, 0, 3, 4, 9, 0.1, 3]])
    assert found.present_R.tolist() == [True, False, False, True, False]


# -------------------------------------------------------------------- what it refuses

def broken(words: dict, argument: str, name: str | None, value) -> dict:
    return {**words, argument: value if name is None else {**words[argument], name: value}}


@pytest.mark.parametrize(
    'argument, name, value, message',
    [
        (
            'images', 'CAM_FRONT', np.zeros((112, 200, 3), np.float32),
            r"images\['CAM_FRONT'\]: expected uint8 RGB.*float32"),
        ('images', 'CAM_FRONT', np.zeros((3, 112, 200), np.uint8), r"images\['CAM_FRONT'\].*\(3, 112, 200\)"),
        (
            'images', 'CAM_TOP', np.zeros((112, 200, 3), np.uint8),
            r"images: unknown 'CAM_TOP', expected some of CAM_FRONT"),
        (
            'images', None, np.zeros((6, 112, 200, 3), np.uint8),
            r'images: expected a dictionary by channel name, found ndarray'),
        ('images', None, {}, r'images: expected some of .* found none'),
        ('K', None, None, r'K: no calibration for CAM_FRONT, CAM_FRONT_RIGHT'),
        ('K', 'CAM_BACK', np.eye(4), r"K\['CAM_BACK'\]: expected 3 x 3 finite numbers, found shape \(4, 4\)"),
        ('K', 'CAM_BACK', np.full((3, 3), np.nan), r"K\['CAM_BACK'\].*not finite"),
        ('K', 'CAM_BACK', np.zeros((3, 3)), r"K\['CAM_BACK'\].*last row 0 0 1"),
        (
            'distortion', None, {'CAM_BACK': {'model': 'plumb_bob', 'coefficients': [0] * 5}},
            r"distortion\['CAM_BACK'\]: expected a model of .*'brown_conrady' here"),
        ('distortion', None, {'CAM_TOP': None}, r"distortion: unknown 'CAM_TOP'"),
        ('ego_T_cam', None, {'CAM_FRONT': np.eye(4)}, r'ego_T_cam: no calibration for CAM_FRONT_RIGHT'),
        ('ego_T_cam', 'CAM_FRONT', np.diag([2.0, 2, 2, 1]), r"ego_T_cam\['CAM_FRONT'\]: expected a rotation"),
        (
            'ego_T_cam', 'CAM_FRONT', make_transform(np.eye(3), np.ones(3)).T,
            r"ego_T_cam\['CAM_FRONT'\].*last row"),
        (
            'points', None, np.zeros((10, 3), np.float32),
            r'points: expected floats \(P, 4 to 6\), found float32 \(10, 3\)'),
        ('points', None, np.zeros((10, 5), np.int64), r'points: expected floats.*int64'),
        ('ego_T_lidar', None, np.eye(3), r'ego_T_lidar: expected 4 x 4'),
        ('global_T_ego', None, np.zeros((4, 4)), r'global_T_ego: expected a rotation'),
        (
            'radars', None, {'RADAR_FRONT': np.zeros((2, 6))},
            r'radar: this model has no radar encoder.*camera, lidar'),
    ],
)
def test_a_wrong_argument_is_named(model, words, argument, name, value, message):
    with pytest.raises(ValueError, match=message):
        model(**broken(words, argument, name, value))


def test_a_call_without_sense_is_refused(model, words, world):
    with pytest.raises(TypeError, match=r'model\(sample\)'):
        model()
    with pytest.raises(TypeError, match=r'model\(sample\)'):
        model(world[0][0], **words)
    with pytest.raises(TypeError, match='expected a Sample, found dict'):
        model(words)
    with pytest.raises(ValueError, match='no sensor is given'):
        model(token='x')


def test_a_sample_before_the_pipeline_is_refused_not_predicted_wrongly(model, world):
    raw = world.load(0)[0]
    with pytest.raises(ValueError, match=r'expected \(64, 176\).*found \(112, 200\).*model.prepare'):
        model(raw)
    assert_same(model(model.prepare(raw)), model(world[0][0]))


def test_another_order_of_cameras_is_refused(model, tiny_world):
    turned = make_dataset(tiny_world, reading=dict(cameras=CAMERAS[::-1], lidar_sweeps=0, radar_sweeps=0))
    with pytest.raises(ValueError, match='in this order'):
        model(turned[0][0])


# -------------------------------------------------------------------- opening

@pytest.mark.filterwarnings('ignore:.*random')
def test_a_memory_follows_a_drive_by_its_poses_and_times():
    settings = read_config(DEBUG)
    settings.model.memory = dict(type='MapMemory', grid=settings.model.encoders.lidar.grid, channels=32)
    model = load_model(settings)
    points, pose = np.random.default_rng(0).uniform(-20, 20, (300, 4)), np.eye(4)

    with pytest.raises(ValueError, match="drive 'd': .* memory.* found no timestamp_ns and no global_T_ego"):
        model(points=points, drive='d')
    with pytest.raises(ValueError, match='found no global_T_ego$'):
        model(points=points, drive='d', timestamp_ns=10**9)
    with pytest.raises(ValueError, match='global_T_ego'):
        model(points=points, drive='d', timestamp_ns=10**9, global_T_ego=np.full((4, 4), np.nan))

    # all by the same token, which says nothing of their order
    for seconds in (1, 2):
        model(points=points, drive='d', timestamp_ns=seconds * 10**9, global_T_ego=pose)
    with pytest.raises(WrongOrderError, match=r'1000000000 ns\) came after frame \(2000000000 ns'):
        model(points=points, drive='d', timestamp_ns=10**9, global_T_ego=pose)
    assert not model.network.memory.streams[False].resets
    model(points=points)  # without a drive it is one moment


def test_without_a_checkpoint_it_says_that_the_weights_are_random():
    with pytest.warns(UserWarning, match='weights are random'):
        load_model(DEBUG)


def test_with_a_checkpoint_it_says_nothing(checkpoint):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        load_model(DEBUG, checkpoint)
    assert [one for one in said if issubclass(one.category, UserWarning)] == []


def test_a_checkpoint_of_another_configuration_is_refused(checkpoint):
    with pytest.raises(ValueError, match='another configuration'):
        load_model(ROOT / 'configs' / 'world/camera_lidar.py', checkpoint)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='no_such.py'):
        load_model(tmp_path / 'no_such.py')
    with pytest.raises(FileNotFoundError, match='no_such.pth'):
        load_model(DEBUG, tmp_path / 'no_such.pth')
    with pytest.raises(ValueError, match=r"engine 'openvino': expected export=FOLDER"):
        load_model(DEBUG, engine='openvino')
    with pytest.raises(FileNotFoundError, match='no such sidecar'):
        load_model(DEBUG, engine='openvino', export=tmp_path)


def test_options_change_the_configuration(checkpoint):
    sweeps = load_model(DEBUG, checkpoint, options={'test_dataloader.dataset.reading.lidar_sweeps': 2})
    assert sweeps.lidar_sweeps == 2
    with pytest.raises(ValueError, match='modle'):
        load_model(DEBUG, checkpoint, options={'modle': 1})


def test_bfloat16_is_near_float32_and_int8_is_refused(model, checkpoint, words):
    half = load_model(DEBUG, checkpoint, precision='bf16')
    difference = (
        half(**words).map_segmentation.probabilities_6YX - model(**words).map_segmentation.probabilities_6YX
    )
    assert 0 < np.abs(difference).max() < 0.05
    with pytest.raises(ValueError, match="precision: torch on cpu runs fp32, bf16, found 'int8'"):
        load_model(DEBUG, checkpoint, precision='int8')


def test_an_exported_network_predicts_like_the_model(model, checkpoint, world, words, tmp_path):
    pytest.importorskip('onnxruntime', reason='the onnxruntime engine is not installed')
    from perception.core.checkpoint import load_weights
    from perception.deployment.export.network import export_network, plain, select_parts
    config = read_config(DEBUG)
    parts = select_parts(plain(config.model), tasks=['map_segmentation'])
    built = MODELS.build(parts).eval()
    load_weights(built, checkpoint, strict=False)
    collate = dict(config.test_dataloader.collate_fn)
    batch = FUNCTIONS.get(collate.pop('type'))([world[0]], **collate)['inputs']
    export_network(built, batch, tmp_path, parts, plain(config.test_dataloader.dataset))
    engine = load_model(DEBUG, checkpoint, engine='onnxruntime', export=tmp_path)
    assert engine.tasks == ('map_segmentation',) and engine(**words).detection is None
    found, expected = engine(**words).map_segmentation, model(**words).map_segmentation
    np.testing.assert_allclose(found.probabilities_6YX, expected.probabilities_6YX, atol=1e-3)
    other = {
        'test_dataloader.dataset.pipeline': [
            dict(type='ResizeCropFlipRotate', size_hw=(96, 176), train=False)
        ]
    }
    with pytest.raises(ValueError, match='exported with another pipeline'):
        load_model(DEBUG, engine='onnxruntime', export=tmp_path, options=other)


# -------------------------------------------------------------------- a real frame

def test_a_model_without_an_export_runs_in_the_loop_of_a_vehicle(model, words):
    """As stages: inputs prepared, computed and decoded one after the other."""
    deployed = model.deployed()
    deployed.warm_up()
    stages = runtime_stages(deployed.model, deployed.engine, lambda measurement: None, lambda *_: None)
    batch = model.batch(model.sample(**words))

    answer = stages.decode(stages.infer(stages.recall(stages.prepare(batch), batch)), batch)
    direct = model(**words)
    assert np.allclose(
        answer.map_segmentation.probabilities, direct.map_segmentation.probabilities, atol=1e-5)
    # untrained scores are all but equal: rounding says which box comes first, and which is the last of 200
    found, expected = (
        np.column_stack([one.boxes, 100 * one.labels]) for one in (answer.detection, direct.detection))
    apart = np.abs(found[:, None] - expected).max(-1).min(1)
    assert len(found) == len(expected) > 100 and (apart > 1e-4).sum() <= 3
    assert answer.frame.token == direct.frame.token


def test_making_it_says_nothing_of_pictures_that_never_came(checkpoint):
    model = load_model(DEBUG, checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model.deployed()
    assert not model.views


@pytest.fixture(scope='module')
def real_dataset(real_frames, real_infos) -> NuScenesDataset:
    """Real frames through the debug configuration, images decoded whole, as a user of the arrays has them."""
    return make_dataset(
        real_frames, version='v1.0-mini', split='mini_val', infos=str(real_infos),
        reading=dict(lidar_sweeps=0, radar_sweeps=0, image_reduce=1))


REAL_TOKEN = '3e8750f331d7499e9b5123e9eb70f2e2'


def test_a_real_frame_gives_what_the_dataset_gives(model, checkpoint, real_dataset):
    index = real_dataset.tokens.index(REAL_TOKEN)
    words = as_words(real_dataset.load(index)[0])
    assert words['images']['CAM_FRONT'].shape == (900, 1600, 3) and len(words['points']) > 20_000
    assert_same(model(**words), prediction_of_the_test_tool(checkpoint, real_dataset, index))


def test_a_real_frame_from_its_files_by_hand(model, real_dataset, real_frames):
    """Files and tables read without any of our loaders: what a user with only nuScenes' own tools would pass
    in."""
    import cv2
    NuScenes = pytest.importorskip('nuscenes', reason='nuscenes-devkit is not installed').NuScenes
    from perception.core.geometry import transform_from_record
    tables = NuScenes('v1.0-mini', str(real_frames), verbose=False)
    data = tables.get('sample', REAL_TOKEN)['data']
    global_T = {name: tables.get('sample_data', data[name]) for name in (*CAMERAS, 'LIDAR_TOP')}

    def pose(name: str) -> tuple[np.ndarray, dict]:
        calibrated = tables.get('calibrated_sensor', global_T[name]['calibrated_sensor_token'])
        ego = transform_from_record(tables.get('ego_pose', global_T[name]['ego_pose_token']))
        return ego @ transform_from_record(calibrated), calibrated

    ego_T_global = invert(
        transform_from_record(tables.get('ego_pose', global_T['LIDAR_TOP']['ego_pose_token']))
    )
    images = {name: cv2.imread(str(real_frames / global_T[name]['filename']))[..., ::-1] for name in CAMERAS}
    rows = np.fromfile(real_frames / global_T['LIDAR_TOP']['filename'], np.float32).reshape(-1, 5)
    sample = model.sample(
        images, {name: pose(name)[1]['camera_intrinsic'] for name in CAMERAS},
        {name: ego_T_global @ pose(name)[0] for name in CAMERAS}, rows, ego_T_global @ pose('LIDAR_TOP')[0],
        token=REAL_TOKEN)
    expected = real_dataset[real_dataset.tokens.index(REAL_TOKEN)][0]
    np.testing.assert_array_equal(sample.camera.images_NHW3, expected.camera.images_NHW3)
    np.testing.assert_allclose(sample.camera.K_N33, expected.camera.K_N33, atol=1e-9)
    np.testing.assert_allclose(sample.camera.ego_T_cam_N44, expected.camera.ego_T_cam_N44, atol=1e-6)
    np.testing.assert_allclose(sample.lidar.points_P6, expected.lidar.points_P6, atol=1e-4)
    assert model(sample).detection is not None
