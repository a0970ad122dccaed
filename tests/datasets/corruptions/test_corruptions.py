"""Failing sensors: each definition by numbers one can check in the head, and what all of them promise."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import RADAR_VELOCITY, XY, XYZ, Annotations, LidarPoints, Sample
from perception.core.protocols import RADARS
from perception.datasets.corruptions import Corrupt, corruption, corruptions, parse_choice, suite_rows
from perception.datasets.corruptions.alignment import rotation_about
from perception.datasets.corruptions.lidar import LIDAR_PLACE_M, azimuth_deg, fog_echo, kept_rings

ALL = [(c.name, s) for c in corruptions() for s in c.severities]
NAMES = [c.name for c in corruptions()]


@pytest.fixture(scope='module')
def six(new_pair) -> tuple[Sample, Annotations]:
    """Six cameras, whole-number rings, and pictures with some texture."""
    sample, annotations = new_pair((60, 100), 6)
    points = sample.lidar.points_P6.copy()
    points[:, 4] = np.arange(len(points)) % 32
    noise = np.random.default_rng(3).integers(40, 200, sample.camera.images_NHW3.shape, dtype=np.uint8)
    mixed = (sample.camera.images_NHW3 // 2 + noise // 3).astype(np.uint8)
    return replace(
        sample, lidar=LidarPoints(points), camera=replace(sample.camera, images_NHW3=mixed)
    ), annotations


@pytest.fixture(scope='module')
def before(six):
    """A drive: every frame has one before it, whose sensors give something else; the first has none."""
    def previous(sample: Sample) -> Sample | None:
        count = int(sample.frame.token.removeprefix('token') or 0)
        if count == 2:
            return None
        images, points = sample.camera.images_NHW3 + np.uint8(1), sample.lidar.points_P6 + np.float32(1)
        return replace(
            sample, frame=replace(sample.frame, token=f'token{count + 1}'), lidar=LidarPoints(points),
            camera=replace(sample.camera, images_NHW3=images))
    return previous


def arrays(sample: Sample) -> dict[str, np.ndarray]:
    """Everything a sample holds, as bytes that can be compared."""
    found = {}
    for name in ('camera', 'lidar', 'radar'):
        for field, value in vars(getattr(sample, name) or object.__new__(type('Nothing', (), {}))).items():
            if isinstance(value, np.ndarray):
                found[f'{name}.{field}'] = value
    return found


def corrupted(six, before, name: str, severity: float, seed: int = 0) -> Sample:
    return corruption(name)(six[0], severity, np.random.default_rng(seed), six[1], before)


@pytest.mark.parametrize(('name', 'severity'), ALL)
def test_pure_and_seeded(six, before, name: str, severity: float) -> None:
    kept = {key: value.copy() for key, value in arrays(six[0]).items()}
    once, again = (corrupted(six, before, name, severity) for _ in range(2))
    for key, value in arrays(six[0]).items():
        np.testing.assert_array_equal(value, kept[key], err_msg=f'{name} changed {key} of its input')
    assert arrays(once).keys() == arrays(again).keys()
    for key, value in arrays(once).items():
        np.testing.assert_array_equal(value, arrays(again)[key])
        assert value.dtype == kept[key].dtype
        assert np.isfinite(value).all() if value.dtype.kind == 'f' else True


@pytest.mark.parametrize('name', NAMES)
def test_nothing_to_corrupt(six, before, name: str) -> None:
    bare = Sample(six[0].frame)
    chosen = corruption(name)
    found = chosen(bare, chosen.severities[-1], np.random.default_rng(0), six[1], lambda sample: bare)
    assert found.camera is None and found.lidar is None and found.radar is None


@pytest.mark.parametrize('name', NAMES)
def test_only_the_named_sensors_change(six, before, name: str) -> None:
    chosen = corruption(name)
    found = corrupted(six, before, name, chosen.severities[-1])
    touched = {'missing_camera': {'camera'}, 'missing_lidar': {'lidar'}}.get(name, set(chosen.sensors))
    for sensor in {'camera', 'lidar', 'radar'} - touched:
        assert getattr(found, sensor) is getattr(six[0], sensor) or sensor == 'radar'
    if 'radar' not in touched:
        np.testing.assert_array_equal(found.radar.points_P8, six[0].radar.points_P8)


@pytest.mark.parametrize('name', [c.name for c in corruptions() if c.harmless is not None])
def test_harmless_severity_changes_nothing(six, before, name: str) -> None:
    found = corrupted(six, before, name, corruption(name).harmless)
    np.testing.assert_array_equal(found.lidar.points_P6, six[0].lidar.points_P6)


def damage(clean: Sample, found: Sample) -> float:
    """How far a sample is from the clean one: pixels, lost cameras, lost and moved points, poses, radar
    velocities."""
    pixels = np.abs(clean.camera.images_NHW3.astype(int) - found.camera.images_NHW3).mean() / 255
    lost = (~found.camera.present_N).sum()
    poses = np.abs(clean.camera.ego_T_cam_N44 - found.camera.ego_T_cam_N44).sum()
    a, b = clean.lidar.points_P6, None if found.lidar is None else found.lidar.points_P6
    points = 1e6 if b is None else len(a) - len(b) if len(a) != len(b) else np.abs(a - b)[:, :3].sum()
    c, d = clean.radar.points_P8, found.radar.points_P8
    radar = abs(len(c) - len(d)) + (0 if len(c) != len(d) else np.abs(c - d)[:, RADAR_VELOCITY].sum())
    return float(pixels + lost + poses + points + radar)


# not here: what strikes a frame by chance, at any severity alike; fog and snow, which are measured below in
# their own way
@pytest.mark.parametrize(
    'name',
    [n for n in NAMES if n not in ('temporal_misalignment', 'moment_lost', 'fog', 'snow', 'lidar_snow')])
def test_severities_are_in_order_of_damage(six, before, name: str) -> None:
    found = [damage(six[0], corrupted(six, before, name, s, seed=1)) for s in corruption(name).severities]
    assert found == sorted(found), f'{name}: {found}'
    assert found[-1] > 0


def test_wrong_severity_and_missing_needs(six) -> None:
    with pytest.raises(ValueError, match='beam_reduction: expected a severity of 32, 16, 8, 4, 1 .*found 7'):
        corruption('beam_reduction')(six[0], 7, np.random.default_rng(0))
    with pytest.raises(ValueError, match='missing_objects: needs annotated boxes, sample token has none'):
        corruption('missing_objects')(six[0], 0.5, np.random.default_rng(0), None)
    with pytest.raises(ValueError, match='lidar_late: needs a callable'):
        corruption('lidar_late')(six[0], 1, np.random.default_rng(0))


def ring_of_points(degrees: list[float]) -> LidarPoints:
    """Points 10 m from the LiDAR in the given directions, on rings 0, 1, 2 ..."""
    turn = np.deg2rad(degrees)
    xyz = np.stack([10 * np.cos(turn), 10 * np.sin(turn), np.zeros(len(turn))], 1) + LIDAR_PLACE_M
    return LidarPoints(np.concatenate([xyz, np.full((len(turn), 1), 100), np.arange(len(turn))[:, None] % 32,
                                       np.zeros((len(turn), 1))], 1).astype(np.float32))


@pytest.mark.parametrize(('half_deg', 'expected'), [(180, 9), (120, 7), (90, 5), (60, 3)])
def test_limited_field(six, half_deg: int, expected: int) -> None:
    sample = replace(six[0], lidar=ring_of_points([0, 45, -45, 89, -89, 100, -110, 170, -170]))
    found = corruption('limited_field')(sample, half_deg, np.random.default_rng(0)).lidar.points_P6
    assert len(found) == expected
    assert np.abs(azimuth_deg(found)).max() <= half_deg


@pytest.mark.parametrize('beams', [32, 16, 8, 4, 1])
def test_beam_reduction_keeps_n_rings(six, beams: int) -> None:
    found = corruption('beam_reduction')(six[0], beams, np.random.default_rng(0)).lidar.points_P6
    assert len(np.unique(found[:, 4])) == beams == len(kept_rings(beams))
    assert set(kept_rings(beams)) <= set(kept_rings(min(32, beams * 2) if beams > 1 else 4))


def test_beam_reduction_wants_rings(six) -> None:
    points = six[0].lidar.points_P6.copy()
    points[0, 4] = -1
    with pytest.raises(ValueError, match='beam_reduction: sample token has points whose ring is not known'):
        corruption('beam_reduction')(replace(six[0], lidar=LidarPoints(points)), 4, np.random.default_rng(0))


def test_missing_objects_takes_moving_objects_out_of_old_sweeps(six) -> None:
    labels = six[1].boxes  # the first box is at (10, 3), and moves with (5, 1.5) m/s
    points = np.array(
        [[10, 3, 0.8, 9, 0, 0], [7.5, 2.25, 0.8, 9, 0, 0.5], [7.5, 2.25, 0.8, 9, 0, 0], [40, 3, 0.8, 9, 0, 0]]
    )
    sample = replace(six[0], lidar=LidarPoints(points.astype(np.float32)))
    only = replace(six[1], boxes=labels.select(np.array([0])))
    found = corruption('missing_objects')(sample, 1.0, np.random.default_rng(0), only).lidar.points_P6
    np.testing.assert_allclose(found, points[2:])


def test_missing_objects_rate_is_per_object(six) -> None:
    boxes = six[1].boxes
    many = boxes.select(np.zeros(400, int))
    places = many.boxes_M9.copy()
    places[:, 0] = np.arange(400) * 10
    points = np.zeros((400, 6), np.float32)
    points[:, :3] = places[:, :3]
    sample = replace(six[0], lidar=LidarPoints(points))
    many = replace(six[1], boxes=replace(many, boxes_M9=places))
    left = len(corruption('missing_objects')(sample, 0.3, np.random.default_rng(0), many).lidar.points_P6)
    assert abs(left / 400 - 0.7) < 0.07  # three standard deviations


def test_points_reduction_keeps_a_tenth(six) -> None:
    found = corruption('points_reduction')(six[0], 90, np.random.default_rng(0)).lidar.points_P6
    assert len(found) == round(len(six[0].lidar.points_P6) / 10)


def test_motion_blur_of_points_is_one_shift_and_little_jitter(six) -> None:
    found = corruption('lidar_motion_blur')(six[0], 3, np.random.default_rng(0)).lidar.points_P6
    moved = (found - six[0].lidar.points_P6)[:, XYZ]
    np.testing.assert_allclose(moved.std(0), 0.13 * np.array([0.15, 0.2, 0.12]), rtol=0.2)
    np.testing.assert_array_equal(found[:, 3:], six[0].lidar.points_P6[:, 3:])


def test_fog_fades_by_the_law_and_never_moves_points_away(six) -> None:
    sample = replace(six[0], lidar=ring_of_points([0.0, 90.0]))
    found = corruption('lidar_fog')(sample, 1, np.random.default_rng(0)).lidar.points_P6
    assert found[0, 3] == round(100 * np.exp(-2 * 0.02 * 10))  # 67
    thick = corruption('lidar_fog')(six[0], 3, np.random.default_rng(0)).lidar.points_P6
    ranges = [np.linalg.norm(p[:, XYZ] - LIDAR_PLACE_M, axis=1) for p in (six[0].lidar.points_P6, thick)]
    assert (ranges[1] <= ranges[0] + 1e-3).all() and (ranges[1] < ranges[0] - 1).any()


def test_fog_echo_comes_from_a_few_metres_and_is_weaker_in_front_of_near_targets() -> None:
    strength, distance_m = fog_echo(0.06)
    assert 1 < distance_m[-1] < 10
    assert (np.diff(strength) >= 0).all() and strength[0] == 0
    assert strength[-1] == strength[300]


def test_snow_brings_points_nearer_or_loses_them(six) -> None:
    counts = [
        len(corruption('lidar_snow')(six[0], s, np.random.default_rng(0)).lidar.points_P6) for s in (1, 2, 3)
    ]
    assert len(six[0].lidar.points_P6) > counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize('count', range(1, 7))
def test_view_drop_and_noise_hit_exactly_n(six, count: int) -> None:
    rig, clean = (
        corruption('view_drop')(six[0], count, np.random.default_rng(5)).camera, six[0].camera.images_NHW3)
    assert (~rig.present_N).sum() == count and not rig.images_NHW3[~rig.present_N].any()
    np.testing.assert_array_equal(rig.images_NHW3[rig.present_N], clean[rig.present_N])
    rig = corruption('view_noise')(six[0], count, np.random.default_rng(5)).camera
    assert rig.present_N.all()
    assert sum(not np.array_equal(a, b) for a, b in zip(rig.images_NHW3, clean, strict=True)) == count


def test_missing_sensors_are_absent_not_zero(six) -> None:
    assert corruption('missing_lidar')(six[0], 1, np.random.default_rng(0)).lidar is None
    found = corruption('missing_camera')(six[0], 1, np.random.default_rng(0))
    assert found.present() == {'camera': False, 'lidar': True, 'radar': True}


def test_bright_dark_and_quantised(six) -> None:
    grey = replace(
        six[0], camera=replace(six[0].camera, images_NHW3=np.full_like(six[0].camera.images_NHW3, 102))
    )
    found = corruption('bright')(grey, 1, np.random.default_rng(0)).camera.images_NHW3
    assert set(np.unique(found)) == {153}  # 0.4 + 0.2 of 255
    found = corruption('colour_quantisation')(six[0], 3, np.random.default_rng(0)).camera.images_NHW3
    assert set(np.unique(found)) <= {0, 64, 128, 192}
    ladder = six[0].camera.images_NHW3.copy()
    ladder[:, :, :50], ladder[:, :, 50:] = 255, 0
    found = corruption('dark')(replace(six[0], camera=replace(six[0].camera, images_NHW3=ladder)), 1,
                               np.random.default_rng(0)).camera.images_NHW3
    assert abs(found[:, :, :50].mean() - 0.4 * 255) < 1 and found[:, :, 50:].mean() < 3


def test_motion_blur_keeps_the_light(six) -> None:
    for severity in (1, 2, 3):
        found = corruption('motion_blur')(six[0], severity, np.random.default_rng(0)).camera.images_NHW3
        assert abs(found.mean() - six[0].camera.images_NHW3.mean()) < 1.5
    from perception.datasets.corruptions.image import streak_kernel
    kernel = streak_kernel(15, 5, 0.0)
    assert kernel.sum() == pytest.approx(1) and kernel[15, 15] == kernel.max()
    assert not kernel[:15].any() and not kernel[15, :15].any()  # to one side of the middle, on its row


def test_fog_hides_more_of_the_picture_as_it_gets_thicker(six) -> None:
    clean = six[0].camera.images_NHW3.astype(float).ravel()
    foggy = [corruption('fog')(six[0], s, np.random.default_rng(0)).camera.images_NHW3 for s in (1, 2, 3)]
    alike = [np.corrcoef(clean, images.ravel())[0, 1] for images in foggy]
    assert 1 > alike[0] > alike[1] > alike[2] > 0


def test_snow_makes_the_picture_pale(six) -> None:
    for severity in (1, 2, 3):
        found = corruption('snow')(six[0], severity, np.random.default_rng(0)).camera.images_NHW3
        assert found.mean() > six[0].camera.images_NHW3.mean() + 10


def test_frame_lost_rate(six) -> None:
    rng = np.random.default_rng(0)
    lost = [(~corruption('frame_lost')(six[0], 2, rng).camera.present_N).sum() for _ in range(200)]
    assert abs(np.mean(lost) - 2) < 0.25  # six cameras, a third each


def test_dirt_covers_a_part_of_every_lens(six) -> None:
    found = corruption('obstacle_occlusion')(six[0], 1, np.random.default_rng(0)).camera.images_NHW3
    changed = (found != six[0].camera.images_NHW3).any(-1).mean((1, 2))
    assert ((changed > 0.03) & (changed < 0.9)).all()


@pytest.mark.parametrize('angle_deg', [0.5, 1, 2, 5])
def test_drift_turns_by_exactly_the_angle(six, angle_deg: float) -> None:
    clean = six[0].camera.ego_T_cam_N44
    found = corruption('calibration_drift_deg')(
        six[0], angle_deg, np.random.default_rng(0)
    ).camera.ego_T_cam_N44
    for before_T, after_T in zip(clean, found, strict=True):
        turned = before_T[:3, :3].T @ after_T[:3, :3]
        assert np.degrees(np.arccos((np.trace(turned) - 1) / 2)) == pytest.approx(angle_deg, abs=1e-6)
        np.testing.assert_allclose(after_T[:, 3], before_T[:, 3], atol=1e-12)


@pytest.mark.parametrize('distance_m', [0.05, 0.1, 0.2, 0.5])
def test_drift_moves_by_exactly_the_distance(six, distance_m: float) -> None:
    clean = six[0].camera.ego_T_cam_N44
    found = corruption('calibration_drift_m')(
        six[0], distance_m, np.random.default_rng(0)
    ).camera.ego_T_cam_N44
    np.testing.assert_allclose(np.linalg.norm(found[:, :3, 3] - clean[:, :3, 3], axis=1), distance_m)
    np.testing.assert_array_equal(found[:, :3, :3], clean[:, :3, :3])


def test_spatial_misalignment_is_rigid_and_strikes_as_often_as_it_says(six) -> None:
    sample = replace(six[0], lidar=ring_of_points([0, 90, 180]))
    found = [corruption('spatial_misalignment')(sample, 2, np.random.default_rng(i)) for i in range(300)]
    struck = [f for f in found if f is not sample]
    assert abs(len(struck) / 300 - 0.4) < 0.09
    a, b = sample.lidar.points_P6[:, XYZ], struck[0].lidar.points_P6[:, XYZ]
    np.testing.assert_allclose(
        np.linalg.norm(b[1:] - b[0], axis=1), np.linalg.norm(a[1:] - a[0], axis=1), rtol=1e-5
    )
    # the points lie evenly but for one: their middle is near the LiDAR, so it shows the shift
    middle = b.mean(0) - a.mean(0)
    assert middle[1] == pytest.approx(-2, abs=0.3)
    np.testing.assert_allclose(
        rotation_about(np.array([0, 0, 2.0]), np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )


def test_late_frames_go_back_one_by_one_and_stop_at_the_start(six, before) -> None:
    clean = six[0]
    for severity, steps in ((1, 1), (2, 2), (3, 2)):
        late = corruption('lidar_late')(clean, severity, np.random.default_rng(0), None, before)
        np.testing.assert_allclose(late.lidar.points_P6, clean.lidar.points_P6 + steps, rtol=1e-5)
        late = corruption('camera_late')(clean, severity, np.random.default_rng(0), None, before)
        np.testing.assert_array_equal(late.camera.images_NHW3, clean.camera.images_NHW3 + np.uint8(steps))
        assert late.camera.ego_T_cam_N44 is clean.camera.ego_T_cam_N44


def test_a_lost_moment_has_nothing_of_any_sensor(six) -> None:
    found = [corruption('moment_lost')(six[0], 3, np.random.default_rng(i)) for i in range(40)]
    lost = [sample for sample in found if not any(sample.present().values())]
    assert 10 < len(lost) < 30
    assert all(sample is six[0] for sample in found if any(sample.present().values()))
    assert len(parse_choice('memory')) == 5 * 3


def test_radars(six) -> None:
    clean, rng = six[0].radar.points_P8, np.random.default_rng
    assert len(corruption('radar_clutter')(six[0], 2, rng(0)).radar.points_P8) == 3 * len(clean)
    np.testing.assert_array_equal(
        corruption('radar_clutter')(six[0], 2, rng(0)).radar.points_P8[: len(clean)], clean
    )
    found = corruption('radar_doppler_bias')(six[0], 4, rng(0)).radar.points_P8
    along = ((found - clean)[:, RADAR_VELOCITY] * clean[:, XY]).sum(1) / np.linalg.norm(clean[:, XY], axis=1)
    np.testing.assert_allclose(np.abs(along), 4, rtol=1e-4)
    for dead in (1, 2, 3):
        radar = corruption('radar_dead')(six[0], dead, rng(0)).radar
        assert (~radar.present_R).sum() == dead and len(RADARS) - dead == len(
            np.unique(radar.points_P8[:, 7])
        )


def test_words_choose_rows() -> None:
    assert [(c.name, s) for c, s in parse_choice('fog:2, beam_reduction:4')] == [
        ('fog', 2), ('beam_reduction', 4)]
    assert {c.name for c, _ in parse_choice('robobev')} == {
        'bright', 'dark', 'fog', 'snow', 'motion_blur', 'colour_quantisation', 'camera_crash', 'frame_lost'}
    assert [(c.name, s) for c, s in parse_choice('multicorrupt') if c.name == 'beam_reduction'] == [
        ('beam_reduction', 16), ('beam_reduction', 8), ('beam_reduction', 4)]
    assert len(parse_choice('all')) == len(ALL) and len(parse_choice('fog,fog:2,robobev')) == 24
    with pytest.raises(ValueError, match="no corruption 'beam_reductoin', did you mean 'beam_reduction'"):
        parse_choice('beam_reductoin')
    with pytest.raises(ValueError, match="fog: expected a severity of 1, 2, 3 .*, found 'heavy'"):
        parse_choice('fog:heavy')


def test_suites_hold_the_published_severities() -> None:
    suites = suite_rows()
    assert suites['metabev'] == {
        'view_drop': (1, 2, 3, 4, 5, 6), 'view_noise': (1, 2, 3, 4, 5, 6), 'obstacle_occlusion': (1,),
        'limited_field': (120, 90, 60), 'missing_objects': (0.1, 0.3, 0.5, 0.7, 1.0),
        'beam_reduction': (16, 8, 4, 1)}
    assert len(suites['robobev']) == 8 and all(len(s) == 3 for s in suites['robobev'].values())


def test_transform_as_augmentation(six) -> None:
    half, rng = Corrupt('bright', probability=0.5), np.random.default_rng(0)
    found = [half(*six, rng) for _ in range(60)]
    changed = [f for f in found if f[0] is not six[0]]
    assert 15 < len(changed) < 45 and all(f[1] is six[1] for f in found)
    assert len({f[0].camera.images_NHW3.tobytes() for f in changed}) == 3  # all severities occur
    with pytest.raises(ValueError, match="severity: expected 'random' or one of"):
        Corrupt('bright', 5)


def test_lasting_failures_stay_for_a_drive_and_others_do_not(six) -> None:
    def drive(name: str, scene: str) -> set[bytes]:
        transform, sample = (
            Corrupt(name, 2, drive_seed=0), replace(six[0], frame=replace(six[0].frame, scene=scene)))
        return {
            transform(sample, None, np.random.default_rng(i))[0].camera.present_N.tobytes() for i in range(6)
        }

    assert len(drive('camera_crash', 'a')) == 1 and len(drive('frame_lost', 'a')) > 1
    assert len({drive('camera_crash', scene).pop() for scene in 'abcdef'}) > 1


def test_dataset_gives_its_transforms_the_frame_before(tiny_world) -> None:
    from perception.datasets.reading.dataset import NuScenesDataset

    options = dict(
        split='train', sensors=('camera', 'lidar'), tasks=('detection',),
        reading=dict(lidar_sweeps=0, radar_sweeps=0),
    )
    clean = NuScenesDataset(tiny_world, **options)
    late = NuScenesDataset(
        tiny_world, **options, pipeline=[dict(type='Corrupt', name='lidar_late', severity=1)]
    )
    np.testing.assert_array_equal(late[1][0].lidar.points_P6, clean[0][0].lidar.points_P6)
    np.testing.assert_array_equal(late[0][0].lidar.points_P6, clean[0][0].lidar.points_P6)
    assert late[1][0].frame.token == clean[1][0].frame.token and clean.previous_sample(clean[0][0]) is None
