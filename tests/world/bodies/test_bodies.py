"""Every body fills its box exactly, stays low-poly and looks different from the front and from behind."""
import numpy as np
import pytest

from perception.world.bodies.make import CATEGORIES, make_body
from perception.world.scene.materials import MATERIALS

SIZES = {
    'vehicle.car': (4.6, 1.9, 1.7), 'vehicle.bus.rigid': (11.0, 2.9, 3.4),
    'vehicle.trailer': (11.0, 2.8, 3.8)}


@pytest.mark.parametrize('category', CATEGORIES)
@pytest.mark.parametrize('pose', ['', 'rider'])
def test_body_touches_its_box_and_is_low_poly(category, pose):
    size = SIZES.get(category, (2.0, 0.8, 1.6))
    mesh = make_body(category, size, np.random.default_rng(3), pose)
    low, high = mesh.bounds_m
    np.testing.assert_allclose(low, -np.array(size) / 2, atol=1e-5)
    np.testing.assert_allclose(high, np.array(size) / 2, atol=1e-5)
    assert 20 <= len(mesh.faces_F3) <= 320
    assert (mesh.areas_m2 > 1e-8).all()


@pytest.mark.parametrize(
    'category',
    [
        'vehicle.car', 'vehicle.truck', 'vehicle.bus.rigid', 'vehicle.construction', 'vehicle.motorcycle',
        'vehicle.bicycle'],
)
def test_body_tells_front_from_rear(category):
    """The mesh mirrored front to back is another mesh: heading shows."""
    mesh = make_body(category, SIZES.get(category, (2.0, 0.8, 1.6)), np.random.default_rng(3))
    centres = mesh.triangles_F33.mean(axis=1)
    mirrored = centres * [-1, 1, 1]
    nearest = np.linalg.norm(centres[:, None] - mirrored[None], axis=2).min(axis=1)
    assert nearest.max() > 0.05


def test_lights_look_the_right_way():
    mesh = make_body('vehicle.car', SIZES['vehicle.car'], np.random.default_rng(0))
    names = np.array([MATERIALS[index].name for index in mesh.material_F])
    assert (mesh.normals_F3[names == 'headlight', 0] > 0.9).all()
    assert (mesh.normals_F3[names == 'taillight', 0] < -0.9).all()
    assert mesh.triangles_F33[names == 'taillight'][..., 0].max() < 0


def test_rider_makes_a_difference_and_colours_vary():
    size = (1.8, 0.6, 1.6)
    alone = make_body('vehicle.bicycle', size, np.random.default_rng(0))
    ridden = make_body('vehicle.bicycle', size, np.random.default_rng(0), 'rider')
    assert len(ridden.faces_F3) > len(alone.faces_F3) + 50
    paints = {int(make_body('vehicle.car', SIZES['vehicle.car'], np.random.default_rng(seed)).material_F[0])
              for seed in range(12)}
    assert len(paints) >= 3


def test_unknown_category_is_refused():
    with pytest.raises(ValueError, match='vehicle.spaceship'):
        make_body('vehicle.spaceship', (1, 1, 1), np.random.default_rng(0))
