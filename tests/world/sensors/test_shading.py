from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.world.bodies.shapes import box
from perception.world.scene.materials import MATERIAL_ID
from perception.world.scene.mesh import Mesh
from perception.world.scene.weather import make_weather
from perception.world.sensors.camera import render_camera
from perception.world.sensors.ground import ground_lookup, ground_material
from perception.world.sensors.shadow import cast_shadows, is_shadowed
from perception.world.sensors.triangles import SceneGeometry
from perception.world.toy import toy_scene
from tests.world.sensor_scene import GEOMETRY, RIG, SNAPSHOT

SIZE = (112, 200)


def scene_in(kind: str, sun=None):
    weather = make_weather(kind, np.random.default_rng(1))
    return replace(
        toy_scene(), weather=weather if sun is None else replace(weather, sun_direction=np.array(sun))
    )


def picture(scene, name: str = 'CAM_FRONT') -> np.ndarray:
    return render_camera(scene, 1.0, RIG.cameras[name], SIZE, np.random.default_rng(0)).image_HW3


def test_shadow_of_a_slab_falls_where_the_sun_sends_it():
    # a slab at z = 4, x in [10, 12], y in [-1, 1]; sun from +x at 45 degrees: the shadow falls 4 m towards -x
    slab = box((10.0, 12.0), (-1.0, 1.0), (3.9, 4.0), 'concrete')
    scene = replace(scene_in('day', sun=(1.0, 0.0, 1.0)), static_mesh=slab, tracks=())
    geometry = SceneGeometry.of(scene)
    shadow = cast_shadows(geometry.at(1.0))
    x0, y0, _ = geometry.origin_m
    assert is_shadowed(shadow, 7.0 - x0, 0.0 - y0, 0.0)
    assert is_shadowed(shadow, 9.0 - x0, 0.0 - y0, 2.0), 'half way up the same rays'
    assert not is_shadowed(shadow, 11.0 - x0, 0.0 - y0, 0.0), 'right below'
    assert not is_shadowed(shadow, 7.0 - x0, 1.6 - y0, 0.0)
    assert not is_shadowed(shadow, 11.0 - x0, 0.0 - y0, 4.0), 'not on itself'


def test_ground_lookup_equals_the_raster():
    lookup, rng = ground_lookup(GEOMETRY), np.random.default_rng(0)
    points = rng.uniform((-80.0, -60.0), (300.0, 60.0), (500, 2))
    local = points - GEOMETRY.origin_m[:2]
    found = [ground_material(lookup, x, y) for x, y in local]
    np.testing.assert_array_equal(found, GEOMETRY.scene.ground.material_at(points))


def test_kinds_of_light_order_the_brightness():
    day, dusk, night, rain = (
        picture(scene_in(kind)).astype(float) for kind in ('day', 'dusk', 'night', 'rain')
    )
    assert 80 < day.mean() < 160 and 80 < rain.mean() < 180
    assert night.mean() < 0.6 * day.mean() and night.mean() < dusk.mean()


def test_fog_hides_the_far_more_than_the_near():
    clear = scene_in('day')
    thick = replace(clear, weather=replace(clear.weather, fog_density_per_m=0.05))
    change = np.abs(picture(thick).astype(float) - picture(clear)).mean(axis=-1)
    near, far = change[-8:].mean(), change[62:68, 30:90].mean()
    assert far > 1.5 * near


def test_paint_is_seen_far_away_without_breaking_up():
    """The solid yellow line behind the car: every image row between 5 and 30 m holds yellow."""
    camera = RIG.cameras['CAM_BACK']
    image = render_camera(SNAPSHOT, 1.0, camera, (450, 800), np.random.default_rng(0)).image_HW3.astype(float)
    yellow = (image[..., :2].min(axis=-1) - image[..., 2]) / image.max(axis=-1)
    rows = np.flatnonzero(np.arange(450) > 240 + 402 * 1.57 / 30.0)
    assert (yellow[rows].max(axis=1) > 0.15).mean() > 0.98


@pytest.mark.parametrize('name', ['headlight', 'building_glass'])
def test_lamps_and_windows_shine_at_night(name: str):
    wall = box((24.0, 25.0), (-6.0, 6.0), (0.5, 9.0), name)
    dull = box((24.0, 25.0), (-6.0, 6.0), (0.5, 9.0), 'concrete')
    night = scene_in('night')
    lit, plain = (picture(replace(night, static_mesh=Mesh.merge([mesh]), tracks=())) for mesh in (wall, dull))
    assert np.percentile(lit[20:50, 60:140], 98) > 1.5 * np.percentile(plain[20:50, 60:140], 98)
    assert MATERIAL_ID[name] >= 0
