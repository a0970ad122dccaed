"""The toy scene, prepared for the sensor tests, and a few random triangles."""
from __future__ import annotations

import numpy as np

from perception.core.rig.file import load_rig
from perception.world.sensors.triangles import SceneGeometry
from perception.world.toy import toy_scene

RIG = load_rig()
GEOMETRY = SceneGeometry.of(toy_scene())
SNAPSHOT = GEOMETRY.at(1.0)


def random_triangles(count: int, spread_m: float, seed: int) -> np.ndarray:
    """(count, 3, 3) float32 faces of up to 6 m around the origin."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-spread_m, spread_m, (count, 1, 3))
    return (centre + rng.uniform(-3.0, 3.0, (count, 3, 3))).astype(np.float32)


def points_in_ego(points_sensor: np.ndarray, ego_T_sensor: np.ndarray) -> np.ndarray:
    """(P, 3) float64 in the ego frame."""
    return points_sensor[:, :3].astype(np.float64) @ ego_T_sensor[:3, :3].T + ego_T_sensor[:3, 3]
