"""Cameras of another make: brought to the trained focal length and horizon, and what that loses is said."""
from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import CameraRig, Frame, Sample
from perception.core.geometry import box_corners, invert, project, transform_points
from perception.core.lens import Distortion
from perception.core.lens.projection import lens_project
from perception.core.rig.file import load_rig
from perception.core.rig.sensors import FORWARD_T_OPTICAL, CameraSensor
from perception.core.rig.view import focal_length_px, horizon_pixel
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.reading.options import ReadingOptions
from perception.datasets.reading.records import CameraRecord
from perception.datasets.transforms.image import ResizeCropFlipRotate, sample_rng, turning
from perception.datasets.transforms.view import Look, TrainedView, prepared_view
from perception.world.sensors.camera import render_camera
from tests.world.sensor_scene import GEOMETRY

SIZE_HW = (256, 704)
VIEW = dict(size_hw=(900, 1600), focal_px=(1260.0, 805.0), horizon_px=480.0)
SCALE = 1.0909 * 704 / 1600
FOCAL, WIDE_FOCAL = 1260 * SCALE, 805 * SCALE
ROW = SCALE * 480.5 - 0.5 - (SCALE * 900 - 256)
"""Where training has the horizon: about row 54."""
CAR_BOX = np.array([15.0, 0.0, 0.85, 4.6, 1.9, 1.7, 0.0, 0.0, 0.0])
"""The toy scene's car ahead, in ego."""


def camera(
    focal_px: float, size_hw=(1216, 1936), yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0, height_m=1.5
) -> CameraSensor:
    """A camera whose principal point is its middle."""
    from scipy.spatial.transform import Rotation
    pose = np.eye(4)
    turned = Rotation.from_euler('ZYX', [yaw_deg, pitch_deg, roll_deg], degrees=True).as_matrix()
    pose[:3, :3] = turned @ FORWARD_T_OPTICAL
    pose[:3, 3] = [1.5, 0, height_m]
    height, width = size_hw
    K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
    return CameraSensor('CAM', size_hw, K, pose)


def sample_of(*cameras: CameraSensor, fill: int = 200) -> Sample:
    rig = CameraRig.blank([f'C{i}' for i in range(len(cameras))], [c.size_hw for c in cameras])
    rig.images_NHW3[:], rig.present_N[:] = fill, True
    for i, one in enumerate(cameras):
        rig.K_N33[i], rig.ego_T_cam_N44[i] = one.K_33, one.ego_T_cam
    return Sample(Frame('a', 0, np.eye(4)), rig)


def prepare(sample: Sample, **options):
    size_hw, view = options.get('size_hw', SIZE_HW), options.get('view', VIEW)
    transform = ResizeCropFlipRotate(size_hw, train=False, view=view)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        rig = transform(sample, None, sample_rng(0, 0, 0))[0].camera
    return rig, transform, [str(one.message) for one in caught]


STRANGE = [
    dict(focal_px=1984.0), dict(focal_px=1984.0, pitch_deg=4.0, yaw_deg=120.0),
    dict(focal_px=1000.0, pitch_deg=6.0), dict(focal_px=2600.0, yaw_deg=-90.0, roll_deg=3.0, height_m=3.2),
    dict(focal_px=700.0, size_hw=(480, 640)), dict(focal_px=3000.0, size_hw=(2160, 3840), pitch_deg=10.0)]


@pytest.mark.parametrize('options', STRANGE)
def test_the_horizon_lies_where_training_has_it(options):
    one = camera(**options)
    rig, transform, _ = prepare(sample_of(one))

    # a kerb stone at camera height, a thousand kilometres ahead of the camera
    sight = one.ego_T_cam[:3, 2] * [1, 1, 0]
    far = one.ego_T_cam[:3, 3] + 1e6 * sight / np.linalg.norm(sight)
    pixel, depth = project(rig.K_N33[0], transform_points(invert(rig.ego_T_cam_N44[0]), far[None]))
    assert depth[0] > 0 and pixel[0, 1] == pytest.approx(ROW, abs=1e-2)
    assert min(abs(focal_length_px(rig.K_N33[0]) - f) for f in (FOCAL, WIDE_FOCAL)) < 1e-9

    found = transform.views['C0']
    assert found.horizon_row == pytest.approx(ROW, abs=1e-6) and not found.as_trained
    assert found.focal_px == pytest.approx(found.trained_focal_px)


def test_without_a_view_the_horizon_is_cut_away_with_a_word():
    """The lower part of a tall picture is kept, whatever it shows."""
    rig, transform, words = prepare(sample_of(camera(1984.0, pitch_deg=2.0)), view=None)
    found = transform.views['C0']
    assert found.horizon_lost and found.horizon_row < 0
    assert rig.K_N33[0, 0, 0] == pytest.approx(1984 * 768 / 1936, 1e-3)
    assert len(words) == 1 and 'horizon in row -' in words[0] and 'docs/data.md' in words[0]


def test_pictures_of_nuscenes_stay_as_they_were_to_the_bit():
    small = [
        replace(one, size_hw=(225, 400), K_33=one.intrinsics_for((225, 400)))
        for one in load_rig().cameras.values()]
    sample = sample_of(*small)
    sample.camera.images_NHW3[:] = np.random.default_rng(0).integers(0, 255, (6, 225, 400, 3))
    for train in (False, True):
        old, new = (
            ResizeCropFlipRotate((64, 176), train, view=view)(sample, None, sample_rng(1, 0, 0))[0].camera
            for view in (None, VIEW))
        np.testing.assert_array_equal(old.images_NHW3, new.images_NHW3)
        np.testing.assert_array_equal(old.K_N33, new.K_N33)
    _, transform, words = prepare(sample)
    assert words == [] and all(found.as_trained for found in transform.views.values())


def test_every_real_car_of_nuscenes_is_like_those_of_training(real_frames):
    import json

    from perception.core.geometry import transform_from_record
    records = json.loads((real_frames / 'v1.0-mini' / 'calibrated_sensor.json').read_text())
    looks = [
        Look(np.array(r['camera_intrinsic']), transform_from_record(r), (900, 1600))
        for r in records if r['camera_intrinsic']]
    view = TrainedView(**VIEW)
    assert len(looks) >= 12 and all(view.matches(look, (900, 1600), 40.0) for look in looks)


def test_what_is_lost_is_said_once_and_in_degrees():
    one = camera(1984.0)
    sample = sample_of(one)
    transform = ResizeCropFlipRotate(SIZE_HW, train=False, view=VIEW)
    message = 'C0: 1936 x 1216 pixels, resized by 0.30.*black, in pixels: .*57 left, 57 right'
    with pytest.warns(UserWarning, match=message) as said:
        transform(sample, None, sample_rng(0, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        transform(sample, None, sample_rng(0, 0, 0))
        moved = replace(sample.camera, ego_T_cam_N44=sample.camera.ego_T_cam_N44 + 1e-9)
        transform(replace(sample, camera=moved), None, sample_rng(0, 0, 0))
    assert len(said) == 1

    # kept above the horizon: ROW + 0.5 rows of FOCAL; the whole picture has 608 of 1984 to either side
    found = transform.views['C0']
    whole = math.degrees(math.atan(608 / 1984))
    above = math.degrees(math.atan((ROW + 0.5) / FOCAL))
    below = math.degrees(math.atan((255.5 - ROW) / FOCAL))
    assert found.lost_deg['top'] == pytest.approx(whole - above, abs=1e-6)
    assert found.lost_deg['bottom'] == pytest.approx(max(0, whole - below), abs=1e-6)
    assert found.lost_deg['left'] == found.lost_deg['right'] == 0
    black_below = 255.5 - (ROW + 608 * FOCAL / 1984)
    assert found.black_px == {'top': 0, 'left': 57, 'right': 57, 'bottom': round(max(0, black_below))}
    assert found.to_record()['source_hw'] == (1216, 1936)


def test_black_borders_keep_the_whole_picture():
    one = camera(1984.0, pitch_deg=3.0)
    rig, transform, words = prepare(sample_of(one), view=VIEW | {'borders': 'black'})
    found = transform.views['C0']
    assert all(lost == 0 for lost in found.lost_deg.values()) and 'lost, in degrees: nothing' in words[0]
    assert found.factor == pytest.approx(256 / 1216)
    assert found.black_px['left'] == found.black_px['right'] > 100

    # content and calibration agree: the bright picture lies where K says its borders are
    corners = rig.K_N33[0] @ np.linalg.inv(one.K_33) @ np.array([[-0.5, 1935.5], [-0.5, 1215.5], [1, 1]])
    left, right = corners[0]
    inside = rig.images_NHW3[0, :, :, 0] > 100
    columns = np.flatnonzero(inside[128])
    assert abs(columns[0] - left) < 1.5 and abs(columns[-1] - right) < 1.5

    like = replace(load_rig().cameras['CAM_FRONT'])
    plain, framed = (prepare(sample_of(like), view=v)[0] for v in (None, VIEW | {'borders': 'black'}))
    np.testing.assert_array_equal(plain.K_N33, framed.K_N33)


def test_training_sees_other_cameras_by_the_same_view():
    """Without any randomness, training prepares what testing does; with it, focal lengths lie around it."""
    sample = sample_of(camera(1984.0), load_rig().cameras['CAM_FRONT'])
    still = ResizeCropFlipRotate(SIZE_HW, scale=(1.0909, 1.0909), flip=0, rotate_deg=0, view=VIEW)
    moving = ResizeCropFlipRotate(SIZE_HW, view=VIEW)
    trained = still(sample, None, sample_rng(0, 0, 0))[0].camera
    tested = prepare(sample)[0]
    np.testing.assert_allclose(trained.K_N33[0, :2, :2], tested.K_N33[0, :2, :2], atol=1e-9)
    assert trained.K_N33[0, 1, 2] == pytest.approx(tested.K_N33[0, 1, 2])
    focals = [
        focal_length_px(moving(sample, None, sample_rng(0, 0, i))[0].camera.K_N33[0]) for i in range(5)]
    assert 479 < min(focals) and max(focals) < 694


def test_a_camera_that_is_absent_or_looks_down_goes_by_its_width():
    down = camera(1984.0, pitch_deg=85.0)
    sample = sample_of(camera(1984.0), down)
    sample.camera.present_N[0] = False
    rig, transform, words = prepare(sample)
    plain = prepare(sample, view=None)[0]
    np.testing.assert_array_equal(rig.K_N33, plain.K_N33)
    assert list(transform.views) == ['C1'] and transform.views['C1'].horizon_row is None and words == []


@pytest.mark.parametrize(('focal_px', 'width_px', 'reduce'), [
    (1984.0, 1936, 2), (560.0, 1936, 1), (1260.0 * 1.21, 1936, 2), (3600.0, 3840, 4), (1500.0, 3840, 2)])
def test_the_decoder_shrinks_no_image_below_what_the_view_makes_of_it(focal_px, width_px, reduce):
    one = camera(focal_px, (width_px * 5 // 8, width_px))
    record = CameraRecord(
        file='a.jpg', missing=False, token='a', timestamp_us=0, time_lag_s=0.0,
        ego_T_sensor=one.ego_T_cam, K_33=one.K_33,
        width_px=width_px, height_px=one.size_hw[0])
    dataset = NuScenesDataset.__new__(NuScenesDataset)
    transform = ResizeCropFlipRotate(SIZE_HW, train=False, view=VIEW)
    dataset.reading, dataset._resizing = ReadingOptions(), [transform]
    assert dataset._reduction(record) == reduce
    look = Look(one.K_33, one.ego_T_cam, one.size_hw)
    assert width_px / reduce >= transform.view.nearest_focal_px(look) / focal_px * width_px * SCALE - 1


def test_boxes_sit_on_objects_of_a_world_seen_by_another_camera():
    """Pixels of the car ahead, after the preparation, lie within its projected box and fill it."""
    one = camera(496.0, (304, 484), pitch_deg=2.0, height_m=1.9)
    frame = render_camera(GEOMETRY, 1.0, one, one.size_hw, np.random.default_rng(0))
    sample = sample_of(one)
    sample.camera.images_NHW3[0] = np.where(frame.track_id_HW == 0, 255, 0)[..., None]
    rig = prepare(sample, size_hw=(128, 352))[0]
    rows, columns = np.nonzero(rig.images_NHW3[0, :, :, 0] > 128)
    corners = box_corners(CAR_BOX[None])[0]
    pixels, _ = project(rig.K_N33[0], transform_points(invert(one.ego_T_cam), corners))
    low, high = pixels.min(0), pixels.max(0)
    assert len(rows) > 100
    np.testing.assert_allclose([columns.min(), rows.min()], low, atol=2.5)
    np.testing.assert_allclose([columns.max(), rows.max()], high, atol=2.5)


@pytest.mark.parametrize('lens', [
    Distortion('kannala_brandt', (0.05, -0.01, 0.002, 0.0)),
    Distortion('brown_conrady', (-0.3, 0.1, 0.001, 0.0))])
def test_the_horizon_of_a_bent_picture_is_where_the_lens_puts_it(lens):
    one = camera(900.0, pitch_deg=20.0, yaw_deg=30.0)
    found = horizon_pixel(one.K_33, one.ego_T_cam, lens)
    sight = one.ego_T_cam[:3, 2] * [1, 1, 0]
    far = one.ego_T_cam[:3, 3] + 1e7 * sight / np.linalg.norm(sight)
    expected, _ = lens_project(one.K_33, transform_points(invert(one.ego_T_cam), far[None]), lens)
    np.testing.assert_allclose(found, expected[0], atol=1e-3)
    assert abs(found[1] - horizon_pixel(one.K_33, one.ego_T_cam)[1]) > 3


def test_a_fisheyes_horizon_comes_to_its_place_and_its_loss_is_in_angles():
    """Equidistant: 600 pixels are a radian all over the picture."""
    lens = Distortion('kannala_brandt', (0.0, 0.0, 0.0, 0.0))
    one = camera(600.0, pitch_deg=20.0)
    sample = sample_of(one)
    rig, transform, _ = prepare(replace(sample, camera=replace(sample.camera, distortions=(lens,))))
    sight = one.ego_T_cam[:3, 2] * [1, 1, 0]
    far = one.ego_T_cam[:3, 3] + 1e7 * sight / np.linalg.norm(sight)
    cam_T_ego = invert(rig.ego_T_cam_N44[0])
    pixel, _ = lens_project(rig.K_N33[0], transform_points(cam_T_ego, far[None]), rig.distortion_of(0))
    assert pixel[0, 1] == pytest.approx(ROW, abs=1e-2)

    # the middle lies 20 degrees below the horizon; 968 columns to either side are 968 / 600 rad
    found = transform.views['C0']
    kept_above = 20 + math.degrees((ROW + 0.5) / WIDE_FOCAL)
    assert found.lost_deg['top'] == pytest.approx(math.degrees(608 / 600) - kept_above, abs=1e-6)
    assert found.lost_deg['left'] == pytest.approx(math.degrees(968 / 600 - 352 / WIDE_FOCAL), abs=1e-6)


@pytest.mark.parametrize(('lens', 'end_deg', 'kept_deg'), [
    # theta (1 - 0.05 theta^2) ends in 516 pixels: the picture has 800 to either side, 500 are kept
    (Distortion('kannala_brandt', (-0.05, 0.0, 0.0, 0.0)), 147.937067, 125.856341),
    # r (1 - 0.3 r^2) grows up to r = 1.054: nothing of it is cut
    (Distortion('brown_conrady', (-0.3, 0.0, 0.0, 0.0)), 46.508481, 46.508481)])
def test_what_a_lens_does_not_see_is_not_lost(lens, end_deg, kept_deg):
    one = camera(300.0, (1000, 1600))
    look = Look(one.K_33, one.ego_T_cam, one.size_hw, lens)
    cut = np.array([[1.0, 0, -300], [0, 1, 0], [0, 0, 1]])
    trained = {'as_trained': True, 'trained_focal_px': None, 'trained_horizon_row': None}
    lost = prepared_view('C0', look, cut, (1000, 1000), trained).lost_deg
    assert lost == pytest.approx(
        {'top': 0, 'bottom': 0, 'left': end_deg - kept_deg, 'right': end_deg - kept_deg}, abs=1e-4)


def test_another_lens_is_another_picture():
    """The same K and pose: what is said follows the lens, also after a picture through another one."""
    sample, transform = sample_of(camera(600.0)), ResizeCropFlipRotate(SIZE_HW, train=False, view=VIEW)
    lost = []
    for lens in (None, Distortion('kannala_brandt', (0.0, 0.0, 0.0, 0.0))):
        bent = replace(sample, camera=replace(sample.camera, distortions=(lens,)))
        with pytest.warns(UserWarning, match='C0: .* lost'):
            transform(bent, None, sample_rng(0, 0, 0))
        lost.append(transform.views['C0'].lost_deg['left'])
    assert lost[0] < 40 < lost[1]


def test_a_turned_picture_keeps_its_focal_length():
    assert focal_length_px(turning(0.4, (90, 160)) @ camera(500.0).K_33) == pytest.approx(500)


@pytest.mark.parametrize('options', [
    {'focal_px': ()}, {'focal_px': (0.0,)}, {'horizon_px': 900}, {'borders': 'white'}, {'size_hw': (900,)},
    {'fx': 3}])
def test_a_view_that_makes_no_sense(options):
    with pytest.raises(ValueError, match='view'):
        ResizeCropFlipRotate(SIZE_HW, view=VIEW | options)
