from __future__ import annotations

from dataclasses import replace

import numpy as np

from perception.world.bodies.shapes import box
from perception.world.labels.visibility import sight_of_objects, visibility_levels
from perception.world.scene.mesh import Mesh
from perception.world.sensors.triangles import SceneGeometry
from perception.world.toy import toy_scene
from tests.world.sensor_scene import RIG


def test_levels_at_their_bounds():
    alone = np.full(6, 100)
    np.testing.assert_array_equal(
        visibility_levels(np.array([0, 40, 41, 60, 80, 81]), alone), [1, 1, 2, 2, 3, 4]
    )
    assert visibility_levels(np.zeros(1), np.zeros(1)) == 1


def test_free_objects_are_fully_seen():
    sight = sight_of_objects(toy_scene(), 1.0, RIG, {})
    np.testing.assert_array_equal(sight.level_M, [4, 4])
    assert sight.pixels_M[0] > 500 and sight.pixels_M[1] > 20


def test_a_wall_before_the_car_hides_its_share():
    scene = toy_scene()
    # ego at x = 8: the car's tail stands at 20.7; a wall at 15 m hides all that lies left of the car's middle
    left_half = Mesh.merge([scene.static_mesh, box((15.0, 15.2), (-1.75, 3.0), (0.0, 3.0), 'concrete')])
    sight = sight_of_objects(replace(scene, static_mesh=left_half), 1.0, RIG, {})
    assert sight.level_M[0] == 2 and sight.level_M[1] == 4
    whole = Mesh.merge([scene.static_mesh, box((15.0, 15.2), (-4.0, 3.0), (0.0, 3.0), 'concrete')])
    sight = sight_of_objects(SceneGeometry.of(replace(scene, static_mesh=whole)), 1.0, RIG, {})
    assert sight.level_M[0] == 1 and sight.pixels_M[0] == 0
