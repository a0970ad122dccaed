"""A spinning LiDAR's scan of a snapshot: ranges from the same triangles that the cameras draw.

All rays leave at one instant (nuScenes stores motion-compensated scans). Shape letters: A azimuths, E beams,
P points.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from ...core.rig.sensors import LidarSensor, SensorRig
from ..scene.materials import MATERIALS
from ..scene.scene import WorldScene
from .beams import nearest_faces, ray_table
from .ground import ground_lookup, ground_material
from .triangles import SceneGeometry, Snapshot, snapshot_of

__all__ = ['LidarScan', 'scan_lidar', 'cast_scan', 'RANGE_NOISE_M']

RANGE_NOISE_M = 0.012
"""Standard deviation of the range noise (HDL-32E data sheet: about 2 cm)."""
_MIN_RANGE_M = 1.0
_REFERENCE_REACH_M, _REFERENCE_REFLECTIVITY, _REACH_POWER = 100.0, 0.40, 0.30
_NEVER_RETURNED = 0.012
_MIRRORED = {
    'car_': 0.45, 'bus_': 0.45, 'truck_': 0.2, 'trailer_': 0.2, 'vehicle_window': 0.85, 'building_glass': 0.6,
    'tyre': 0.4, 'chassis_dark': 0.5, 'grille': 0.5, 'headlight': 0.5,
    'cycle_frame': 0.1, 'cloth_': 0.4, 'hair_dark': 0.6, 'skin': 0.2}
"""Fraction of beams that gloss, glass, dark hair or cloth send elsewhere, by prefix of the material.

Fitted to the boxes with most points (98th percentile by distance) of three nuScenes scenes: of the beams that
meet them, cars keep 0.5 to 0.6, pedestrians 0.6, a bus 0.5, at any distance.
"""
_SPECKLE = 0.18
_BRIGHTNESS = 140.0
"""Intensity of a perfect diffuse surface met head-on: asphalt has 4 to 8 up to 20 m away, as in nuScenes."""
_RETROREFLECTIVE = ('sign_retro', 'licence_plate', 'taillight', 'reflector_red')
_RETRO_GAIN = 1.8
"""These send the beam back where it came from, brighter than white paint whatever the incidence."""
_BEAM_SPREAD, _BEAM_SEED = 0.35, 32
_REFLECTIVITY = np.array([material.lidar_reflectivity for material in MATERIALS], np.float32)


def _mirrored(material_name: str) -> float:
    return next((value for prefix, value in _MIRRORED.items() if material_name.startswith(prefix)), 0.0)


_IS_RETRO = np.array([material.name in _RETROREFLECTIVE for material in MATERIALS])
_KEPT = np.array([1.0 - _mirrored(material.name) for material in MATERIALS], np.float32)


@dataclass(frozen=True)
class LidarScan:
    """One turn of the LiDAR.

    Attributes:
        points_P5: (P, 5) float32: x, y, z in the sensor frame (m), intensity 0-255 (whole numbers), ring (0 =
            lowest).
        track_id_P: (P,) int16 index of the object that was hit, -1 for static objects and ground.
        material_P: (P,) uint8 material that was hit.
    """

    points_P5: np.ndarray
    track_id_P: np.ndarray
    material_P: np.ndarray


class RawScan(NamedTuple):
    """What each ray meets, before noise and loss.

    Attributes:
        range_AE: metres, inf for sky.
        face_AE: index of the face, -1 for ground and sky.
        material_AE: uint8 material.
        cosine_AE: cosine of the angle of incidence.
    """

    range_AE: np.ndarray
    face_AE: np.ndarray
    material_AE: np.ndarray
    cosine_AE: np.ndarray


@njit(cache=True, nogil=True)
def _finish(rays, local_T_sensor, inverse_AE, face_AE, ground_AE, normals, material, ground_normals, ground,
            range_AE, material_AE, cosine_AE):
    """Turn 1/range into range, note material and cosine; rays that end on the ground have no face."""
    for a in range(rays.shape[0]):
        for e in range(rays.shape[1]):
            # the ray in the axes of the local frame
            x, y, z = rays[a, e, 0], rays[a, e, 1], rays[a, e, 2]
            down = local_T_sensor[2, 0] * x + local_T_sensor[2, 1] * y + local_T_sensor[2, 2] * z
            rx = local_T_sensor[0, 0] * x + local_T_sensor[0, 1] * y + local_T_sensor[0, 2] * z
            ry = local_T_sensor[1, 0] * x + local_T_sensor[1, 1] * y + local_T_sensor[1, 2] * z

            face, patch = face_AE[a, e], ground_AE[a, e]
            if patch >= 0:
                distance = 1.0 / inverse_AE[a, e]
                face_AE[a, e] = -1
                range_AE[a, e] = distance
                material_AE[a, e] = ground_material(ground, local_T_sensor[0, 3] + rx * distance,
                                                    local_T_sensor[1, 3] + ry * distance)
                cosine_AE[a, e] = -(ground_normals[patch, 0] * rx + ground_normals[patch, 1] * ry
                                    + ground_normals[patch, 2] * down)
            elif face >= 0:
                range_AE[a, e] = 1.0 / inverse_AE[a, e]
                material_AE[a, e] = material[face]
                cosine_AE[a, e] = -(normals[face, 0] * rx + normals[face, 1] * ry + normals[face, 2] * down)
            else:
                range_AE[a, e] = np.inf


def cast_scan(snapshot: Snapshot, local_T_sensor: np.ndarray, rays_AE3: np.ndarray, phase_rad: float,
              elevations_rad: np.ndarray, reach_m: float) -> RawScan:
    """Exact first hits of a lattice of rays with the snapshot's triangles and the ground.

    Args:
        snapshot: the scene at one instant.
        local_T_sensor: (4, 4) pose of the sensor in the local frame.
        rays_AE3: from `ray_table`.
        phase_rad: azimuth of the first column.
        elevations_rad: (E,) uniform, rising.
        reach_m: faces wholly beyond are not met.
    """
    shape = rays_AE3.shape[:2]
    inverse, face = np.zeros(shape), np.full(shape, -1, np.int32)
    step_rad = float(elevations_rad[1] - elevations_rad[0])
    sensor_T_local, lowest_rad = np.linalg.inv(local_T_sensor), float(elevations_rad[0])
    nearest_faces(snapshot.triangles_F33, sensor_T_local, rays_AE3, phase_rad, lowest_rad, step_rad, reach_m,
                  inverse, face)

    # the ground where it is nearer than all faces
    patch = np.full(shape, -1, np.int32)
    nearest_faces(snapshot.ground_F33, sensor_T_local, rays_AE3, phase_rad, lowest_rad, step_rad, reach_m,
                  inverse, patch)

    scan = RawScan(np.empty(shape, np.float32), face, np.zeros(shape, np.uint8), np.zeros(shape, np.float32))
    _finish(rays_AE3, local_T_sensor, inverse, face, patch, snapshot.normals_F3, snapshot.material_F,
            snapshot.ground_normal_F3, ground_lookup(snapshot.geometry), scan.range_AE,
            scan.material_AE, scan.cosine_AE)
    return scan


def return_probability(raw: RawScan, max_range_m: float, rain_rate: float, wetness: float) -> np.ndarray:
    """Chance that an echo is strong enough: it falls around a reach set by reflectivity and incidence."""
    wet = np.where(raw.face_AE < 0, 1.0 - 0.45 * wetness, 1.0)
    echo = _REFLECTIVITY[raw.material_AE] * (0.25 + 0.75 * np.clip(raw.cosine_AE, 0.0, 1.0)) * wet
    reach = _REFERENCE_REACH_M * (np.maximum(echo, 1e-4) / _REFERENCE_REFLECTIVITY) ** _REACH_POWER
    reach = np.minimum(reach * (1.0 - 0.4 * rain_rate), max_range_m)
    chance = 1.0 / (1.0 + np.exp(np.clip((raw.range_AE - reach) / (0.06 * reach), -30.0, 30.0)))
    chance *= (1.0 - _NEVER_RETURNED - 0.05 * rain_rate) * _KEPT[raw.material_AE]
    return np.where((raw.range_AE < max_range_m) & (raw.range_AE > _MIN_RANGE_M), chance, 0.0)


def beam_gains(beams: int) -> np.ndarray:
    """(E,) gain of each beam's intensity over the mean: the same for every car and scene.

    Beams of one nuScenes LiDAR differ by up to 2.8 on the same asphalt.
    """
    return np.exp(_BEAM_SPREAD * np.random.default_rng(_BEAM_SEED).standard_normal(beams)).astype(np.float32)


def _intensity(raw: RawScan, speckle: np.ndarray, wetness: float) -> np.ndarray:
    """Intensity 0-255 (A, E): reflectivity by beam gain, weakened at grazing incidence and on wet ground."""
    wet = np.where(raw.face_AE < 0, 1.0 - 0.45 * wetness, 1.0)
    facing = np.sqrt(np.clip(raw.cosine_AE, 0.02, 1.0))
    facing = np.where(_IS_RETRO[raw.material_AE], _RETRO_GAIN, facing)
    value = _BRIGHTNESS * _REFLECTIVITY[raw.material_AE] * facing * wet
    value *= beam_gains(raw.range_AE.shape[1])
    return np.clip(np.round(value * np.maximum(1.0 + _SPECKLE * speckle, 0.0)), 0.0, 255.0)


def scan_lidar(scene: WorldScene | SceneGeometry | Snapshot, t_s: float, rig: SensorRig | LidarSensor,
               rng: np.random.Generator) -> LidarScan:
    """Scan the scene at `t_s`.

    Args:
        scene: the scene; pass a `SceneGeometry` (or the snapshot at `t_s`) to share the work between
            sensors.
        t_s: seconds since the scene's start.
        rig: the car's sensors, or the LiDAR alone.
        rng: draws the phase of the turn, range noise, speckle and drop-out.

    Returns:
        The points in firing order (column by column, lowest beam first), sensor frame.
    """
    sensor = rig.lidar if isinstance(rig, SensorRig) else rig
    snapshot = snapshot_of(scene, t_s)
    phase = float(rng.uniform(0.0, 2.0 * math.pi / sensor.azimuths))
    rays = ray_table(sensor.azimuths, phase, sensor.elevations_rad)
    local_T_lidar = snapshot.local_T_ego @ sensor.ego_T_lidar
    raw = cast_scan(snapshot, local_T_lidar, rays, phase, sensor.elevations_rad, sensor.max_range_m)

    # random numbers for every ray, whether it returns or not
    shape = raw.range_AE.shape
    noise = RANGE_NOISE_M * np.clip(rng.standard_normal(shape, np.float32), -3.0, 3.0)
    speckle, luck = rng.standard_normal(shape, np.float32), rng.random(shape, np.float32)

    weather = snapshot.scene.weather
    returned = luck < return_probability(raw, sensor.max_range_m, weather.rain_rate, weather.wetness)
    azimuth, ring = np.nonzero(returned)
    points = np.empty((len(ring), 5), np.float32)
    points[:, :3] = rays[azimuth, ring] * (raw.range_AE + noise)[azimuth, ring][:, None]
    points[:, 3] = _intensity(raw, speckle, weather.wetness)[azimuth, ring]
    points[:, 4] = ring

    # index -1 (ground) takes the appended -1
    face = raw.face_AE[azimuth, ring]
    track = np.append(snapshot.track_F, np.int16(-1))[face]
    return LidarScan(points, track, raw.material_AE[azimuth, ring])
