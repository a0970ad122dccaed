"""Mirrored batches, and the average of forwards: exact where the model is, refused where it cannot be."""
from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from perception.averaging import AveragedModel
from perception.averaging.views import View, make_views, mirror_places, mirrored_batch
from perception.cli.evaluation.averaged import average_words, check_same_data, use_average
from perception.cli.evaluation.test import changed_options, mirrored_words
from perception.core.contracts import (
    Annotations,
    Batch,
    BoxLabels,
    CameraRig,
    Frame,
    LanePolylines,
    LidarPoints,
    RadarPoints,
    Sample,
)
from perception.core.contracts.finite import NotFiniteError
from perception.core.geometry import invert
from perception.core.grid import BEVGrid
from perception.core.protocols import RADARS
from perception.datasets.reading.collate import collate_samples
from perception.datasets.transforms.bev import apply_bev, bev_transform, move_annotations
from perception.fusion.memory.variants import MapMemory
from perception.heads.averaging import Mirror
from perception.heads.detection import CenterHead
from perception.heads.detection.targets import as_raw as boxes_as_raw
from perception.heads.lanes import LaneHead
from perception.heads.lanes.targets import as_raw as lanes_as_raw
from perception.heads.map_segmentation import MapSegmentationHead
from perception.model import MultiTaskPerception
from perception.preprocessor import BatchPreprocessor
from tests.helpers import GRID, make_batch, make_model, ring_camera


def sample_of_all_sensors() -> Sample:
    """Two cameras, some points and some radar returns, somewhere in the city."""
    rng = np.random.default_rng(0)
    pose = np.eye(4)
    pose[:3, 3] = 640, 1210, 2
    K = np.tile(np.array([[50.0, 0, 31.3], [0, 50, 15.5], [0, 0, 1]]), (2, 1, 1))
    radar = rng.normal(size=(5, 8)).astype(np.float32)
    return Sample(
        Frame('a', 1, pose, 'drive', ego_T_lidar=ring_camera(0.3)),
        CameraRig(
            ('CAM_FRONT', 'CAM_BACK'), rng.integers(0, 255, (2, 32, 64, 3)).astype(np.uint8), K,
            np.stack([ring_camera(0.2), ring_camera(3.0)]), np.array([True, False]), np.zeros(2)),
        LidarPoints(rng.normal(size=(7, 6)).astype(np.float32) * 10),
        RadarPoints(radar, np.ones(len(RADARS), bool)))


def collated(sample: Sample) -> Batch:
    return collate_samples([sample], ('camera', 'lidar', 'radar'), None, ())


def assert_same(found: Batch, expected: Batch, **tolerance: float) -> None:
    """Every tensor and pose of two batches."""
    for name in ('images_BN3HW', 'K_BN33', 'ego_T_cam_BN44', 'camera_present_BN', 'radar_present_BR'):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), **tolerance)
    for name in ('lidar_points', 'radar_points'):
        torch.testing.assert_close(getattr(found, name)[0], getattr(expected, name)[0], **tolerance)
    for name in ('global_T_ego', 'ego_T_lidar'):
        ours, theirs = getattr(found.frames[0], name), getattr(expected.frames[0], name)
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize('flips', [(True, False), (False, True), (True, True)])
def test_a_mirrored_batch_is_that_of_the_mirrored_sample(flips) -> None:
    sample = sample_of_all_sensors()
    view = View(Mirror(*flips, at_m=(0.94, -0.5)))
    shift_m = (1.88 * flips[0], -1.0 * flips[1], 0.0)
    expected = collated(apply_bev(bev_transform(*flips, shift_m=shift_m), sample, None)[0])
    assert_same(mirrored_batch(collated(sample), view), expected, atol=1e-5, rtol=1e-6)


def test_a_batch_mirrored_twice_is_the_same_to_the_bit() -> None:
    batch = collated(sample_of_all_sensors())
    batch = replace(batch, K_BN33=batch.K_BN33.round())
    batch = replace(batch, before=(batch,))
    for view in make_views(('x', 'y', 'images')):
        twice = mirrored_batch(mirrored_batch(batch, view), view)
        assert_same(twice, batch, atol=0, rtol=0)
        assert_same(twice.before[0], batch, atol=0, rtol=0)


def test_a_point_keeps_its_pixel_in_a_flipped_image() -> None:
    batch = collated(sample_of_all_sensors())
    flipped = mirrored_batch(batch, View(flip_images=True))
    point = torch.tensor([0.3, -0.1, 2.0])
    (u, v, depth), (new_u, new_v, _) = (one.K_BN33[0, 0] @ point for one in (batch, flipped))
    assert new_u / depth == pytest.approx(63 - (u / depth).item(), abs=1e-4) and new_v == v
    assert torch.equal(flipped.images_BN3HW[..., 0], batch.images_BN3HW[..., 63])
    assert flipped.lidar_points is batch.lidar_points


def test_what_is_absent_stays_absent() -> None:
    batch = replace(
        collated(sample_of_all_sensors()), images_BN3HW=None, K_BN33=None, ego_T_cam_BN44=None,
        camera_present_BN=None, radar_points=None, radar_present_BR=None)
    found = mirrored_batch(batch, View(Mirror(True), flip_images=True))
    assert found.images_BN3HW is None and found.radar_points is None and len(found.lidar_points[0]) == 7


def test_views_are_all_combinations_the_world_as_it_is_first() -> None:
    views = make_views(('x', 'y', 'images'))
    assert len(set(views)) == 8 and views[0] == View()
    assert make_views(()) == [View()]
    with pytest.raises(ValueError, match='expected different ones out of x, y, images, found z'):
        make_views(('z',))


def test_mirrors_stand_at_the_car_or_where_cells_meet_cells() -> None:
    symmetric, ahead = BEVGrid((-51.2, 51.2), (-4, 4), 0.8), BEVGrid((-49, 51), (-4, 4), 0.5)
    published = BEVGrid((-50.26, 52.14), (-4, 4), 0.8)
    assert mirror_places([symmetric, ahead], ('x', 'y')) == (0, 0)
    assert mirror_places([published], ('x', 'y')) == (pytest.approx(0.94), 0)
    front = BEVGrid((0, 100), (-4, 4), 0.5)  # a mirror at the car would turn it behind the car
    assert mirror_places([front], ('x', 'y')) == (50, 0)
    with pytest.raises(ValueError, match='x is not mirrored: no mirror brings the cells of all tasks'):
        mirror_places([published, symmetric], ('x',))


# -------------------------------------------------------------------- the average

LABELS = Annotations(
    'street',
    BoxLabels(
        np.array([[6.3, -4.3, 0.9, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0]], np.float32), np.array([0]), np.array([5]),
        np.full(1, 5), np.zeros(1, int), np.full(1, 4)),
    lanes=LanePolylines(
        (np.array([[-10, 3], [11, 5]], np.float32), np.array([[10, -3], [-12, -3]], np.float32)),
        np.array([0, 3]), 60.0))


class Oracle(MultiTaskPerception):
    """Answers perfectly in whatever world it is shown, which it knows by the pose: exactly equivariant."""

    def __init__(self) -> None:
        whole = make_model()
        lanes = LaneHead(
            GRID, 16, ('divider', 'centerline'),
            dict(x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8), width=8, cell_m=1.6),
            decoder=dict(instances=2, points=5, layers=1, feedforward=8))
        heads = {'detection': CenterHead(GRID, 16, 4, branches=dict(channels=4)), 'lanes': lanes}
        super().__init__(dict(whole.encoders), whole.fuser, whole.trunk, heads)
        self.seen: list[np.ndarray] = []

    def prepare(self, batch: Batch, streams: object = None) -> dict[str, object]:
        self.seen.append(invert(batch.frames[0].global_T_ego))
        return {'new_T_old': self.seen[-1]}

    def network(self, inputs: dict[str, object]) -> dict[str, dict[str, Tensor]]:
        labels = [move_annotations(inputs['new_T_old'], LABELS)]
        return {
            'detection': boxes_as_raw(self.heads['detection'].targets(labels), 1),
            'lanes': lanes_as_raw(self.heads['lanes'].targets(labels), 2)}


def test_the_average_of_a_perfect_model_is_its_own_answer() -> None:
    model, batch = Oracle().eval(), make_batch(1, points=5)
    expected = model(batch, mode='predict')[0]
    averaged = AveragedModel([model], ('x', 'y'))
    found = averaged(batch)[0]

    assert averaged.forwards == 4
    assert [tuple(np.diag(T)[:2]) for T in model.seen[1:]] == [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    np.testing.assert_allclose(found.detection.boxes, expected.detection.boxes, atol=1e-4)
    assert found.detection.scores[0] == pytest.approx(expected.detection.scores[0], abs=1e-6)
    assert found.detection.attributes_M.tolist() == [5]
    np.testing.assert_allclose(found.lanes.points[:2], expected.lanes.points[:2], atol=1e-3)
    assert found.lanes.labels[:2].tolist() == expected.lanes.labels[:2].tolist()
    assert found.frame is batch.frames[0]


def small_model(
    seed: int = 0, sensors: tuple[str, ...] = ('camera', 'lidar'), **options
) -> MultiTaskPerception:
    """The small model of other tests with a map head; seeded."""
    whole = make_model(sensors)
    torch.manual_seed(seed)
    head = MapSegmentationHead(GRID, 16, width=8, layers=1, task_grid=options.pop('task_grid', GRID))
    torch.nn.init.normal_(head.layers[-1][-1].weight, std=30.0)  # answers that differ from place to place
    return MultiTaskPerception(
        dict(whole.encoders), whole.fuser, whole.trunk, {'map_segmentation': head},
        data_preprocessor=whole.data_preprocessor, **options).eval()


def probabilities(outputs: list) -> np.ndarray:
    return np.stack([output.map_segmentation.probabilities for output in outputs])


@pytest.fixture(scope='module')
def batch() -> Batch:
    """Two normalised samples, the second without its LiDAR."""
    made = make_batch(2, cameras=2, image_hw=(32, 64), points=200)
    ready = BatchPreprocessor()({'inputs': made})['inputs']
    return replace(ready, lidar_present_B=torch.tensor([True, False]))


def test_one_forward_is_the_model_to_the_bit(batch) -> None:
    model = small_model()
    with torch.no_grad():
        expected = model(batch, mode='predict')
    assert np.array_equal(probabilities(AveragedModel([model])(batch)), probabilities(expected))
    with pytest.raises(ValueError, match="mode 'predict' only, found 'loss'"):
        AveragedModel([model])(batch, mode='loss')


def test_models_and_views_are_averaged_alike_with_a_sensor_absent(batch) -> None:
    models = [small_model(0), small_model(1)]
    found = probabilities(AveragedModel(models, ('y', 'images'))(batch))
    with torch.no_grad():
        each = [
            probabilities(model(mirrored_batch(batch, view), mode='predict'))
            for model in models for view in make_views(('y', 'images'))]
    turned = [one[:, :, ::-1] if n // 2 % 2 else one for n, one in enumerate(each)]
    np.testing.assert_allclose(found, np.mean(turned, axis=0), atol=1e-6)
    assert np.abs(turned[0] - turned[1]).max() > 1e-4  # flipped images are seen otherwise


def test_images_are_not_flipped_without_cameras(batch) -> None:
    assert AveragedModel([small_model(sensors=('lidar',))], ('y', 'images')).forwards == 2


def test_a_memory_for_each_view(batch) -> None:
    """The average over a drive is that of models that each saw one view of it; a test starts it over."""
    def remembering() -> MultiTaskPerception:
        model = small_model(memory=MapMemory(GRID, 16))
        for parameter in model.memory.parameters():
            torch.nn.init.constant_(parameter, 0.3)
        return model

    frames = [
        tuple(Frame(f'{d}{t}', 10**9 + t * 500_000_000, np.eye(4), scene=d) for d in 'ab') for t in range(3)]
    drive = [replace(batch, frames=moment) for moment in frames]
    averaged, alone = AveragedModel([remembering()], ('y',)), [remembering(), remembering()]
    views = make_views(('y',))
    found = [probabilities(averaged(moment)) for moment in drive]
    with torch.no_grad():
        for moment, one in zip(drive, found, strict=True):
            plain, mirrored = (
                probabilities(model(mirrored_batch(moment, view), mode='predict'))
                for model, view in zip(alone, views, strict=True))
            np.testing.assert_allclose(one, (plain + mirrored[:, :, ::-1]) / 2, atol=1e-6)
    assert np.abs(found[2] - found[0]).max() > 1e-4  # the past is seen

    averaged.memory.streams[False].forget()
    np.testing.assert_allclose(probabilities(averaged(drive[0])), found[0], atol=1e-6)
    assert AveragedModel([small_model()]).memory is None


def test_what_cannot_be_averaged_is_refused_by_name(batch) -> None:
    with pytest.raises(ValueError, match='heads.map_segmentation: outputs of SquareHead are not averaged'):
        AveragedModel([make_model()])
    other = BEVGrid(GRID.x_range_m, GRID.y_range_m, 0.8)
    with pytest.raises(ValueError, match=r'2: model.heads.map_segmentation: cells: expected BEVGrid\('):
        AveragedModel([small_model(), small_model(task_grid=other)])

    boxes = small_model()
    boxes.heads = torch.nn.ModuleDict({'detection': CenterHead(GRID, 16, 4)})
    with pytest.raises(ValueError, match='expected the tasks map_segmentation of the first.*found detection'):
        AveragedModel([small_model(), boxes])

    dark = small_model()
    dark.data_preprocessor.mean = dark.data_preprocessor.mean * 0
    with pytest.raises(ValueError, match=r'model 2: model.data_preprocessor.mean: expected \[123'):
        AveragedModel([small_model(), dark])


def test_a_forward_that_is_not_finite_is_not_hidden_by_others(batch) -> None:
    broken = small_model(1)
    torch.nn.init.constant_(broken.heads['map_segmentation'].layers[-1][-1].bias, float('nan'))
    with pytest.raises(NotFiniteError, match='outputs of model 2, view 1, are not finite: map_segmentation'):
        AveragedModel([small_model(), broken], ('y',))(batch)


# -------------------------------------------------------------------- the command

def test_the_words_of_the_command() -> None:
    assert mirrored_words('flips') == ('x', 'y', 'images') and mirrored_words('y,x') == ('y', 'x')
    for words in ('z', 'x,x', ''):
        with pytest.raises(ArgumentTypeError, match='expected flips or different words out of x, y, images'):
            mirrored_words(words)


def test_results_of_one_average_are_not_those_of_another(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        'perception.core.config.read_config', lambda path, options: SimpleNamespace(model=dict(path=path)))
    files = [tmp_path / name for name in ('a.pth', 'b.pth')]
    for file in files:
        file.write_text(file.name)
    plain = Namespace(tta=(), checkpoints=[], also=[], cfg_options=None)
    runs = [average_words(Namespace(**{**vars(plain), **change})) for change in (
        {}, {'tta': ('y',)}, {'checkpoints': files[:1]}, {'checkpoints': files[1:]},
        {'also': [['c.py', files[0]]], 'tta': ('x',)}, {'also': [['d.py', files[0]]], 'tta': ('x',)})]
    assert runs[0] == {} and len({tuple(run.items()) for run in runs}) == 6


def test_another_configuration_must_test_on_the_same_data() -> None:
    first = dict(
        dataset=dict(root='a', sensors=('camera', 'lidar'), pipeline=[dict(type='R', points_m=1)]),
        collate_fn=dict(sensors=('camera', 'lidar'), image_size_hw=(8, 8)))
    less = {**first, 'dataset': {**first['dataset'], 'sensors': ('lidar',)}}
    check_same_data(first, less, 'b.py')
    with pytest.raises(ValueError, match=r"a.py: test_dataloader.dataset.sensors: expected \('lidar',\)"):
        check_same_data(less, first, 'a.py')
    every = {**first, 'dataset': {**first['dataset'], 'sensors': None}}  # None: all that there are
    check_same_data(every, first, 'b.py')
    with pytest.raises(ValueError, match=r"b.py: test_dataloader.dataset.sensors: .*found None"):
        check_same_data(first, every, 'b.py')
    other = {**first, 'dataset': {**first['dataset'], 'pipeline': []}}
    with pytest.raises(ValueError, match=r'b.py: test_dataloader.dataset.pipeline: .*found \[\]'):
        check_same_data(first, other, 'b.py')


def test_the_command_changes_the_data_of_every_configuration_alike(tmp_path, monkeypatch, batch) -> None:
    """--split and --sensors reach the model of --also, too: its data stay those of the first one."""
    from perception.core.config import read_config
    from perception.registry import MODELS
    path = 'configs/world/robust.py'
    args = Namespace(
        tta=(), checkpoints=[], also=[[path, str(tmp_path / 'a.pth')]], config=path, cfg_options=None,
        split='demo_test', sensors='lidar', engine='torch', no_results=True, corruption=None)
    first = read_config(path, changed_options(args, tmp_path))
    assert first.test_dataloader.dataset.pipeline[-1]['keep'] == {'lidar': 1.0}

    torch.save({'state_dict': small_model(1).state_dict()}, tmp_path / 'a.pth')
    monkeypatch.setattr(MODELS, 'build', lambda config: small_model(2))
    kept = []
    runner = SimpleNamespace(
        model=small_model(0), cfg=first, load_or_resume=lambda: None, replace_model=kept.append,
        logger=SimpleNamespace(info=str))
    use_average(runner, args)
    assert kept[0].forwards == 2


def test_the_command_puts_the_average_into_the_runner(tmp_path, monkeypatch, batch) -> None:
    from perception.registry import MODELS
    second = small_model(1)
    torch.save({'state_dict': second.state_dict()}, tmp_path / 'b.pth')
    monkeypatch.setattr(MODELS, 'build', lambda config: small_model(2))
    loaded, kept = [], []
    runner = SimpleNamespace(
        model=small_model(0), cfg=SimpleNamespace(model={}), load_or_resume=lambda: loaded.append(True),
        replace_model=kept.append, logger=SimpleNamespace(info=str))
    use_average(runner, Namespace(tta=('y',), checkpoints=[str(tmp_path / 'b.pth')], also=[]))
    expected = AveragedModel([small_model(0), second], ('y',))
    assert loaded and np.array_equal(probabilities(kept[0](batch)), probabilities(expected(batch)))
