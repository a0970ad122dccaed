"""The image and its camera change together: a 3-D point keeps the pixel content it had."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import CameraRig, Frame, Sample
from perception.core.geometry import invert, project, transform_points
from perception.core.lens import Distortion
from perception.core.lens.projection import lens_project
from perception.datasets.corruptions.base import corruption
from perception.datasets.transforms import image as ti
from perception.datasets.transforms.image import (
    Compose,
    PhotometricDistortion,
    ResizeCropFlipRotate,
    sample_rng,
)
from perception.registry import TRANSFORMS


def address_image(height: int, width: int) -> np.ndarray:
    """Float picture whose two first channels say each pixel's own (column, row), the third is 1
    everywhere."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float32)


def read(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear reading at pixels `(P, 2)`."""
    u0, v0 = np.floor(uv).astype(int).T
    fu, fv = (uv - np.floor(uv)).T[..., None]
    return ((image[v0, u0] * (1 - fu) + image[v0, u0 + 1] * fu) * (1 - fv)
            + (image[v0 + 1, u0] * (1 - fu) + image[v0 + 1, u0 + 1] * fu) * fv)


def inner_pixels(
    out_T_in: np.ndarray, source_hw: tuple[int, int], size_hw: tuple[int, int], rng: np.random.Generator
):
    """Random old pixels well inside both pictures, and where they go."""
    old = rng.uniform([6, 6], [source_hw[1] - 7, source_hw[0] - 7], (4000, 2))
    new = old @ out_T_in[:2, :2].T + out_T_in[:2, 2]
    keep = ((new > 3) & (new < np.array(size_hw[::-1]) - 4)).all(1)
    return old[keep], new[keep]


@pytest.mark.parametrize(('out_T_in', 'before', 'after'), [
    (ti.scaling(2), (0, 0), (0.5, 0.5)),  # pixel 0 becomes pixels 0 and 1
    (ti.scaling(0.5), (0.5, 0.5), (0, 0)),
    (ti.shifting(-3, -5), (3, 5), (0, 0)),
    (ti.mirroring(10), (0, 4), (9, 4)),
    (ti.mirroring(10), (9, 4), (0, 4)),
    (ti.turning(np.pi / 2, (5, 5)), (4, 2), (2, 0)),  # the right middle goes up
    (ti.turning(0.3, (5, 5)), (2, 2), (2, 2))])
def test_maps_of_pixels(out_T_in: np.ndarray, before: tuple, after: tuple) -> None:
    np.testing.assert_allclose((out_T_in @ [*before, 1])[:2], after, atol=1e-12)


def test_warp_by_nothing_returns_the_same_picture() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    assert ti.warp(image, np.eye(3), (8, 9)) is image


def test_warp_mirror_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    np.testing.assert_array_equal(ti.warp(image, ti.mirroring(9), (8, 9)), image[:, ::-1])


def test_warp_crop_is_exact_and_black_outside() -> None:
    image = np.random.default_rng(0).integers(1, 255, (8, 9, 3), np.uint8)
    out = ti.warp(image, ti.shifting(-2, -3), (8, 9))
    np.testing.assert_array_equal(out[:5, :7], image[3:, 2:])
    assert out[5:].sum() == 0 and out[:, 7:].sum() == 0


def test_warp_shrinks_by_averaging_not_by_skipping() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[::4] = 240  # thin stripes: one row in four
    out = ti.warp(image, ti.scaling(0.25), (16, 16))
    assert out[2:-2].min() >= 58 and out[2:-2].max() <= 62


@pytest.mark.parametrize('scale', [1.3, 0.7, 0.48, 0.3, 0.11])
def test_warp_at_any_scale_keeps_content(scale: float) -> None:
    out_T_in = ti.turning(0.1, (60, 80)) @ ti.shifting(-5, 3) @ ti.scaling(scale)
    size = (60, 80)
    out = ti.warp(address_image(300, 400), out_T_in, size)
    old, new = inner_pixels(out_T_in, (300, 400), size, np.random.default_rng(0))
    assert len(new) > 50
    found = read(out, new)
    keep = found[:, 2] > 0.9999  # nothing black mixed in
    assert keep.mean() > 0.8
    assert np.abs(found[keep, :2] - old[keep]).max() < 0.06 / scale  # OpenCV steps: 1/32 of a new pixel


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('source_hw', [(90, 160), (128, 352), (225, 400)])
def test_a_point_keeps_its_pixel_content(new_pair, source_hw: tuple[int, int], seed: int) -> None:
    sample, annotations = new_pair(source_hw)
    transform = ResizeCropFlipRotate((64, 176))
    moved, same = transform(sample, annotations, sample_rng(seed, 0, 0))
    assert same is annotations and moved.camera.images_NHW3.shape == (2, 64, 176, 3)
    points = np.random.default_rng(seed).uniform([3, -30, -3], [40, 30, 6], (4000, 3))
    checked = 0
    for i in range(2):
        old_cam, new_cam = sample.camera, moved.camera
        points_cam = transform_points(invert(old_cam.ego_T_cam_N44[i]), points)
        old, depth = project(old_cam.K_N33[i], points_cam)
        new, _ = project(new_cam.K_N33[i], transform_points(invert(new_cam.ego_T_cam_N44[i]), points))
        keep = (
            (depth > 1)
            & ((old > 2) & (old < np.array(source_hw[::-1]) - 3)).all(1)
            & ((new > 2) & (new < [173, 61])).all(1)
        )
        before = read(old_cam.images_NHW3[i].astype(float), old[keep])
        after = read(new_cam.images_NHW3[i].astype(float), new[keep])
        whole = after[:, 2] > 127.5  # away from the black border
        # of 255 levels: about 1 % of the picture's side
        assert np.abs(before - after)[whole][:, :2].max(initial=0) < 3
        checked += int(whole.sum())
    assert checked > 100


@pytest.mark.parametrize('seed', [0, 3, 5])  # 3 and 5 mirror one of the two
def test_a_point_keeps_its_pixel_content_through_a_lens(new_pair, seed: int) -> None:
    sample, _ = new_pair((225, 400))
    lenses = (Distortion('brown_conrady', (-0.2, 0.05, 0.03, -0.04)),
              Distortion('kannala_brandt', (0.05, -0.01, 0.0, 0.0)))
    sample = replace(sample, camera=replace(sample.camera, distortions=lenses))
    moved, _ = ResizeCropFlipRotate((64, 176))(sample, None, sample_rng(seed, 0, 0))
    assert moved.camera.distortions == lenses

    points = np.random.default_rng(seed).uniform([-10, -30, -3], [40, 30, 6], (4000, 3))
    checked = 0
    for i, lens in enumerate(lenses):
        points_cam = transform_points(invert(sample.camera.ego_T_cam_N44[i]), points)
        old, depth = lens_project(sample.camera.K_N33[i], points_cam, lens)
        new, _ = lens_project(moved.camera.K_N33[i], points_cam, lens)
        keep = (depth > 1) & ((old > 2) & (old < [397, 222])).all(1) & ((new > 2) & (new < [173, 61])).all(1)
        before = read(sample.camera.images_NHW3[i].astype(float), old[keep])
        after = read(moved.camera.images_NHW3[i].astype(float), new[keep])
        whole = after[:, 2] > 127.5
        assert np.abs(before - after)[whole][:, :2].max() < 3
        checked += int(whole.sum())
    assert checked > 100


def test_extrinsics_do_not_change(pair) -> None:
    moved, _ = ResizeCropFlipRotate((32, 64))(*pair, sample_rng(0, 0, 0))
    np.testing.assert_array_equal(moved.camera.ego_T_cam_N44, pair[0].camera.ego_T_cam_N44)
    # the old record is untouched
    np.testing.assert_array_equal(pair[0].camera.images_NHW3.shape, (2, 90, 160, 3))


def test_bevfusion_numbers_of_the_test_mode() -> None:
    """900x1600 at 0.48 is 432x768; 256x704 of it from row 176, column 32."""
    out_T_in = ResizeCropFlipRotate((256, 704), train=False).fixed_map((900, 1600))
    assert out_T_in[0, 0] == pytest.approx(0.48, abs=1e-4)
    corner = out_T_in @ [-0.5, -0.5, 1]  # outer corner of the source
    np.testing.assert_allclose(corner[:2], [-32.5, -176.5], atol=0.02)


def test_training_range_is_that_of_bevfusion() -> None:
    transform = ResizeCropFlipRotate((256, 704), flip=0, rotate_deg=0)
    rng = np.random.default_rng(0)
    maps = np.stack([transform.random_map((900, 1600), rng) for _ in range(400)])
    assert 0.38 <= maps[:, 0, 0].min() < 0.385 and 0.545 < maps[:, 0, 0].max() <= 0.5501
    # where the source's lower border lands: the final lower border
    bottom = maps[:, 1, 1] * 899.5 + maps[:, 1, 2]
    np.testing.assert_allclose(bottom, 255.5, atol=1e-9)
    left = maps[:, 0, 0] * -0.5 + maps[:, 0, 2]
    right = maps[:, 0, 0] * 1599.5 + maps[:, 0, 2]
    wide = maps[:, 0, 0] > 0.44
    assert (left[wide] <= -0.5 + 1e-9).all() and (right[wide] >= 703.5 - 1e-9).all()


def test_test_mode_is_deterministic_and_identity_when_nothing_is_to_do(pair) -> None:
    transform = ResizeCropFlipRotate((90, 160), train=False, test_scale=1.0)
    moved, _ = transform(*pair, sample_rng(0, 0, 0))
    np.testing.assert_array_equal(moved.camera.images_NHW3, pair[0].camera.images_NHW3)
    np.testing.assert_allclose(moved.camera.K_N33, pair[0].camera.K_N33, atol=1e-12)
    a, _ = ResizeCropFlipRotate((64, 176), train=False)(*pair, sample_rng(0, 0, 0))
    b, _ = ResizeCropFlipRotate((64, 176), train=False)(*pair, sample_rng(9, 9, 9))
    np.testing.assert_array_equal(a.camera.images_NHW3, b.camera.images_NHW3)


def test_the_generator_alone_decides(pair) -> None:
    transform = ResizeCropFlipRotate((64, 176))
    draws = [(0, 0, 5), (0, 0, 5), (0, 1, 5), (0, 0, 6), (1, 0, 5)]
    maps = [transform(*pair, sample_rng(*d))[0].camera.K_N33 for d in draws]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert all(np.abs(maps[0] - other).max() > 1e-3 for other in maps[2:])
    assert np.abs(maps[0][0] - maps[0][1]).max() > 1e-3  # each camera in its own way


def test_bottom_crop_cuts_the_bonnet() -> None:
    transform = ResizeCropFlipRotate((100, 200), train=False, test_scale=1.0, bottom_crop=(0.2, 0.2))
    out_T_in = transform.fixed_map((200, 200))
    # 20 % of 200 rows lie below the new lower border
    assert (out_T_in @ [0, 159.5, 1])[1] == pytest.approx(99.5)


def test_absent_images_stay_black_but_their_K_follows(pair) -> None:
    from dataclasses import replace
    rig = replace(pair[0].camera, present_N=np.array([True, False]))
    moved, _ = ResizeCropFlipRotate((64, 176))(replace(pair[0], camera=rig), None, sample_rng(0, 0, 0))
    assert moved.camera.images_NHW3[1].sum() == 0 and moved.camera.images_NHW3[0].sum() > 0
    assert moved.camera.present_N.tolist() == [True, False]
    assert np.abs(moved.camera.K_N33[1] - rig.K_N33[1]).max() > 1


def test_no_cameras_pass_through(pair) -> None:
    from dataclasses import replace
    bare = replace(pair[0], camera=None)
    for transform in (ResizeCropFlipRotate((8, 8)), PhotometricDistortion()):
        assert transform(bare, None, sample_rng(0, 0, 0)) == (bare, None)


@pytest.mark.parametrize(
    'options',
    [
        {'size_hw': (0, 5)}, {'size_hw': (5,)}, {'scale': (0, 1)}, {'scale': (2, 1)}, {'flip': 2},
        {'bottom_crop': (0.5, 1.0)}, {'rotate_deg': -1}, {'test_scale': 0}],
)
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ValueError, match='expected'):
        ResizeCropFlipRotate(**{'size_hw': (64, 176), **options})


def test_neutral_distortion_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    np.testing.assert_array_equal(ti.distort(image, 0, 1, 1, 0), image)


def test_distortion_values() -> None:
    image = np.full((2, 2, 3), (200, 100, 100), np.uint8)
    np.testing.assert_array_equal(ti.distort(image, 10, 0.5, 1, 0)[0, 0], [110, 60, 60])
    # no saturation: grey of that value
    np.testing.assert_allclose(ti.distort(image, 0, 1, 0, 0)[0, 0], [200, 200, 200], atol=1)
    # a third of the wheel: green
    np.testing.assert_allclose(ti.distort(image, 0, 1, 1, 120)[0, 0], [100, 200, 100], atol=3)


def test_distortion_leaves_geometry_alone_and_is_deterministic(pair) -> None:
    transform = PhotometricDistortion(probability=1.0)
    a, _ = transform(*pair, sample_rng(3, 0, 0))
    b, _ = transform(*pair, sample_rng(3, 0, 0))
    np.testing.assert_array_equal(a.camera.images_NHW3, b.camera.images_NHW3)
    assert (a.camera.images_NHW3 != pair[0].camera.images_NHW3).mean() > 0.3
    np.testing.assert_array_equal(a.camera.K_N33, pair[0].camera.K_N33)


def test_compose_builds_from_configuration(pair) -> None:
    transform = TRANSFORMS.build(dict(type='Compose', transforms=[
        dict(type='ResizeCropFlipRotate', size_hw=(32, 64)), PhotometricDistortion()]))
    assert isinstance(transform, Compose)
    moved, _ = transform(*pair, sample_rng(0, 0, 0))
    assert moved.camera.image_size_hw == (32, 64)


def test_images_of_other_proportions_keep_content_and_horizon() -> None:
    """An upright image beside a wide one: K follows each one's own map, and both middles meet in one row."""
    sizes = [(90, 160), (160, 100)]
    rig = CameraRig.blank(('wide', 'upright'), sizes)
    for i, (height, width) in enumerate(sizes):
        rig.images_NHW3[i, :height, :width] = address_image(height, width).astype(np.uint8)
        rig.K_N33[i] = [[80, 0, (width - 1) / 2], [0, 80, (height - 1) / 2], [0, 0, 1]]
        rig.present_N[i] = True
    sample = Sample(Frame('a', 0, np.eye(4)), rig)

    out = ResizeCropFlipRotate((36, 64), train=False)(sample, None, sample_rng(0, 0, 0))[0].camera
    assert out.sizes_N2 is None and out.images_NHW3.shape == (2, 36, 64, 3)
    assert out.K_N33[0, 1, 2] == pytest.approx(out.K_N33[1, 1, 2], abs=0.6)

    for i, (height, width) in enumerate(sizes):
        out_T_in = out.K_N33[i] @ np.linalg.inv(rig.K_N33[i])
        old, new = inner_pixels(out_T_in, (height, width), (36, 64), np.random.default_rng(0))
        assert len(new) > 100
        assert np.abs(read(out.images_NHW3[i].astype(np.float32), new)[:, :2] - old).max() < 2


def test_changes_of_single_pictures_leave_what_is_beside_them_black() -> None:
    rig = CameraRig.blank(('wide', 'upright'), [(40, 60), (60, 30)])
    rig.images_NHW3[1, :, :30] = 90
    rig.present_N[:] = True
    sample = Sample(Frame('a', 0, np.eye(4)), rig)
    bright = corruption('bright')
    out = bright(sample, bright.severities[-1], np.random.default_rng(0))
    assert not out.camera.images_NHW3[0, 40:].any() and not out.camera.images_NHW3[1, :, 30:].any()
    assert out.camera.images_NHW3[1, :, :30].min() > 90 and out.camera.images_NHW3[0, :40].min() > 0
