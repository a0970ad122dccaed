"""The lift reads the road where it lies: for every configuration, by distance, exact and blurred depth."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.bev.coverage import RANGES_M, lift_coverage
from perception.bev.lift import lift_tables
from perception.cli import run_verb
from perception.cli.evaluation.calibrations import read_cameras
from perception.core.config import read_config
from perception.core.lens import Distortion
from perception.core.rig.file import DEFAULT_RIG_PATH
from perception.registry import MODELS, TRANSFORMS, without_pretrained
from perception.visualization.coverage import MISSED, OUT_OF_VIEW, READ, coverage_picture

ROOT = Path(__file__).resolve().parents[2]
FORMER = 'camera_ground_nearest.py'
"""It has the lift of earlier versions."""
# what a configuration that changes the lift of its base says
WORDS = ('heights_m', 'lift=', 'depth_bins', 'out_stages', 'cell_m', 'size_hw', '_camera_')
LEAST = (0.9, 0.9, 0.7, 0.4)


def camera_parts() -> dict[str, tuple]:
    """Each different lift of all configurations with cameras: {name: (camera part, image part)}."""
    parts = {}
    paths = [ROOT / 'configs' / folder / 'camera_lidar.py' for folder in ('world', 'nuscenes')]
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        own = path.parent.name not in ('_base_', 'comparisons') and path.name != FORMER
        if own and any(word in path.read_text(encoding='utf-8') for word in WORDS):
            paths.append(path)

    for path in paths:
        config = read_config(path)
        if camera := config.model['encoders'].get('camera'):
            camera, image = (
                part.to_dict() for part in (camera, config.test_dataloader.dataset.pipeline.image))
            lift = [camera[key] for key in ('grid', 'depth_bins', 'lift', 'backbone')]
            key = json.dumps([lift, image])
            parts.setdefault(key, (str(path.relative_to(ROOT / 'configs')), camera, image))
    return {name: (camera, image) for name, camera, image in parts.values()}


@pytest.fixture(scope='module')
def parts():
    return camera_parts()


def build(camera: dict, image: dict) -> tuple:
    return MODELS.build(without_pretrained(camera)).eval(), TRANSFORMS.build(image)


def shares_of(encoder, image, camera, slope: float = 0.0) -> dict[str, list[float]]:
    matrix = torch.from_numpy(image.fixed_map(camera.size_hw) @ camera.K_33)
    shares = lift_coverage(
        encoder, matrix, torch.from_numpy(camera.ego_T_cam), image.size_hw, slope).shares
    return {kind: list(by_range.values()) for kind, by_range in shares.items()}


def test_every_configuration_reads_the_road(parts):
    assert len(parts) >= 6
    cameras = [read_cameras(None, name)[0] for name in ('CAM_FRONT', 'CAM_BACK')]
    for name, (camera, image) in parts.items():
        encoder, transform = build(camera, image)
        for sensor in cameras:
            for kind, shares in shares_of(encoder, transform, sensor).items():
                assert np.greater_equal(shares, LEAST).all(), (name, sensor.name, kind, shares)


@pytest.mark.parametrize(('model', 'coefficients', 'zoom'), [
    ('brown_conrady', (-0.3, 0.1, 2e-3, -3e-3, -0.01), 1.0),
    ('kannala_brandt', (0.03, -0.01, 0.002, -2e-4), 0.4)])
def test_other_lenses_read_the_road(parts, model, coefficients, zoom):
    encoder, image = build(*parts['nuscenes/camera_lidar.py'])
    sensor = read_cameras(None, 'CAM_FRONT')[0]
    K = torch.from_numpy(image.fixed_map(sensor.size_hw) @ sensor.K_33)
    K[[0, 1], [0, 1]] *= zoom
    coverage = lift_coverage(
        encoder, K, torch.from_numpy(sensor.ego_T_cam), image.size_hw,
        distortion=Distortion(model, coefficients))
    for shares in coverage.shares.values():
        assert np.greater_equal(list(shares.values()), LEAST).all()
    assert coverage.in_view_YX.sum() > 1500  # a pinhole sees 1428


def test_real_calibrations_read_the_road(parts, real_frames):
    encoder, transform = build(*parts['nuscenes/camera_lidar.py'])
    for name in ('CAM_FRONT', 'CAM_BACK_LEFT'):
        cameras = read_cameras(real_frames / 'v1.0-mini' / 'calibrated_sensor.json', name)
        assert len(cameras) >= 2
        for shares in shares_of(encoder, transform, cameras[0]).values():
            assert np.greater_equal(shares, LEAST).all()


def test_a_lift_that_stands_beside_the_road_is_found(parts):
    """What the full-size models had: one nearest pixel of layers at -0.6, 0.2, 1.0 m; next, the same on the
    ground."""
    camera, image = parts['nuscenes/camera_lidar.py']
    front = read_cameras(None, 'CAM_FRONT')[0]
    old = {'slots': 2, 'read': 'nearest', 'heights': False}
    ground = {key: value for key, value in camera['grid'].items() if key != 'heights_m'}
    found = []
    for low in (-1.0, -0.4):
        grid = {**ground, 'z_range_m': (low, low + 6.4), 'height_cell_m': 0.8}
        found.append(shares_of(*build({**camera, 'grid': grid, 'lift': old}, image), front))

    assert found[0]['exact'] == [0, 0, 0, 0] and max(found[0]['blurred']) < 0.15
    assert found[1]['exact'] == pytest.approx([1.0, 0.57, 0.07, 0.07], abs=0.01)
    assert found[1]['blurred'] == pytest.approx([1.0, 0.72, 0.30, 0.07], abs=0.01)


@torch.no_grad()
@pytest.mark.parametrize('name', ['world/camera_lidar.py', 'nuscenes/camera_lidar.py'])
@pytest.mark.parametrize('ahead_m', [10.0, 20.0, 30.0])
def test_a_road_pixel_comes_out_on_its_own_cell(parts, name, ahead_m):
    """Context lit where a pixel and its neighbours in one ground cell show road, all sure of the road and of
    no depth: that cell is the brightest."""
    encoder, image = build(*parts[name])
    front = read_cameras(None, 'CAM_FRONT')[0]
    K, ego_T_cam = image.fixed_map(front.size_hw) @ front.K_33, front.ego_T_cam
    h, w = encoder.feature_hw(image.size_hw)
    stride = image.size_hw[0] / h

    # the cell of what the middle of each pixel shows of the road, and the pixel nearest to the place ahead
    row, column = np.mgrid[:h, :w]
    middles = np.stack([(column + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5, np.ones((h, w))], -1)
    rays = middles @ (ego_T_cam[:3, :3] @ np.linalg.inv(K)).T
    falls = np.minimum(rays[..., 2:], -1e-6)
    cells = np.floor(encoder.grid.to_cells((ego_T_cam[:3, 3] - rays * ego_T_cam[2, 3] / falls)[..., :2]))
    u, v, depth = K @ (np.linalg.inv(ego_T_cam) @ [ahead_m, 0.2, 0, 1])[:3]
    own = cells[int((v / depth + 0.5) / stride), int((u / depth + 0.5) / stride)]
    assert abs(encoder.grid.to_metres(own)[0] - ahead_m) < 4

    lit = torch.from_numpy((cells == own).all(-1)).float()[None, None, None]
    ground = int(np.abs(encoder.grid.z_centres_m).argmin())
    heights = torch.full((1, 1, encoder.grid.z_size + 1, h, w), -50.0)
    heights[:, :, ground] = 50.0
    calibration = (torch.from_numpy(part)[None, None] for part in (K, ego_T_cam))
    geometry = encoder.lift_geometry(image.size_hw)
    tables = lift_tables(*calibration, torch.ones(1, 1, dtype=torch.bool), geometry)
    depths = torch.zeros(1, 1, encoder.depth_bins.count, h, w)
    read = encoder.read(lit, [depths, heights], tables)[0, 0, ground]

    brightest = np.unravel_index(int(read.argmax()), read.shape)
    assert read.max() > 0.3 and np.abs(brightest - own[::-1]).max() <= 1


def test_lenses_come_from_rig_files_and_tables(tmp_path):
    record = {'model': 'kannala_brandt', 'coefficients': [0.02, 0.0, 0.0, 0.0]}
    rig = json.loads(DEFAULT_RIG_PATH.read_text())
    rig['cameras']['CAM_FRONT']['distortion'] = record
    (tmp_path / 'rig.json').write_text(json.dumps(rig))

    row = {'sensor_token': 's', 'translation': [0, 0, 1], 'rotation': [1, 0, 0, 0],
           'camera_intrinsic': np.eye(3).tolist(), 'distortion': record}
    (tmp_path / 'calibrated_sensor.json').write_text(json.dumps([row, {**row, 'distortion': None}]))
    (tmp_path / 'sensor.json').write_text(json.dumps([{'token': 's', 'channel': 'CAM_FRONT'}]))

    found = [
        camera.distortion for name in ('rig.json', 'calibrated_sensor.json')
        for camera in read_cameras(tmp_path / name, 'CAM_FRONT')]
    assert found == [Distortion(**record), Distortion(**record), None]


def test_the_command_writes_shares_and_a_picture(tmp_path, capsys):
    out = tmp_path / 'coverage.json'
    run_verb('lift-coverage', [str(ROOT / 'configs' / 'debug.py'), '--slope', '0.02', '--out', str(out)])
    names = [f'{low}-{high}' for low, high in RANGES_M]
    shares = json.loads(out.read_text())
    assert {kind: list(by_range) for kind, by_range in shares.items()} == {'exact': names, 'blurred': names}
    assert out.with_suffix('.png').stat().st_size > 0 and 'slope 0.02' in capsys.readouterr().out

    with pytest.raises(SystemExit, match="expected a camera 'CAM_TOP', found CAM_BACK, "):
        run_verb('lift-coverage', [str(ROOT / 'configs' / 'debug.py'), '--camera', 'CAM_TOP'])
    with pytest.raises(SystemExit, match='expected model.encoders.camera, found none'):
        run_verb('lift-coverage', [str(ROOT / 'configs' / 'world' / 'lidar.py')])


def test_the_picture_has_forward_up():
    """Of 3 x 2 cells the foremost on the left is read, the rearmost on the right is missed."""
    in_view = np.zeros((3, 2), bool)
    in_view[2, 1] = in_view[0, 0] = True
    read = np.zeros((3, 2), bool)
    read[2, 1] = True
    picture = coverage_picture(in_view, {'': read}, 1)
    assert picture.shape == (2, 3, 3)
    assert tuple(picture[0, 0]) == READ and tuple(picture[1, 2]) == MISSED
    assert tuple(picture[0, 1]) == OUT_OF_VIEW
