"""Automotive radars: targets on objects and on standing structure, Doppler, clutter and ghosts.

Rays over the field of view meet the same triangles as the cameras and the LiDAR. Echoes of one body that fall
into one cell of range and angle become one target; it is heard by its radar cross section (class, aspect,
fluctuation) and range. A target's speed is radial, as a radar measures it: (vx, vy) relative to the moving
sensor, (vx_comp, vy_comp) with the sensor's own motion taken out, both along the line of sight, in the sensor
frame (x forward, y left).

Shape letters: A azimuths, E elevations, R rays that meet a face, H echoes, P targets.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.nuscenes.radar_file import RADAR_DTYPE, radar_pcd_bytes
from ...core.rig.sensors import RadarSensor
from ..scene.materials import MATERIALS
from ..scene.scene import WorldScene
from .beams import ray_table
from .lidar import cast_scan
from .triangles import SceneGeometry, Snapshot, snapshot_of

__all__ = ['RadarScan', 'scan_radar', 'encode_radar_pcd', 'class_rcs_dbsm']

_AZIMUTHS, _ELEVATIONS_RAD = 720, np.deg2rad(np.linspace(-7.0, 9.0, 9))
_CELL_RANGE_M, _CELL_ANGLE_RAD = 1.5, np.deg2rad(4.0)
_MAX_TARGETS = 125
_RANGE_NOISE_M, _ANGLE_NOISE_RAD, _SPEED_NOISE_M_PER_S = 0.08, np.deg2rad(0.35), 0.06
_MOVING_M_PER_S = 0.4
_HEARD_DBSM_AT_50_M = -7.0
_REPORTED_OF_OBJECTS, _REPORTED_OF_STRUCTURE = 0.15, 0.9
"""Fraction of echoes that the radar's own tracking lets through; fitted to nuScenes' targets per box."""
_RCS_BY_PREFIX = (
    ('vehicle.car', 10.0), ('vehicle.truck', 17.0), ('vehicle.bus', 18.0), ('vehicle.trailer', 16.0),
    ('vehicle.construction', 15.0), ('vehicle.motorcycle', 4.0), ('vehicle.bicycle', 0.0), ('vehicle', 12.0),
    ('human', -5.0), ('movable_object.trafficcone', -13.0), ('movable_object.barrier', 2.0))
_MATERIAL_RCS = np.array(
    [14.0 + 20.0 * np.log10(max(material.radar_reflectivity, 1e-3)) for material in MATERIALS]
)

# the ARS 408's codes of `dyn_prop`
MOVING = 0
STATIONARY = 1
ONCOMING = 2
STATIONARY_CANDIDATE = 3
CROSSING_MOVING = 6

# the ARS 408's codes of `invalid_state`
VALID = 0
LOW_RCS = 1
NEAR_FIELD = 2
MIRROR = 6


@dataclass(frozen=True)
class RadarScan:
    """One measurement of a radar.

    Attributes:
        targets_P: (P,) of `RADAR_DTYPE`, sensor frame, nearest first.
        track_id_P: (P,) int16 object the target lies on, -1 for structure, clutter and ghosts.
    """

    targets_P: np.ndarray
    track_id_P: np.ndarray

    @property
    def points_P3(self) -> np.ndarray:
        """(P, 3) float32 positions, sensor frame."""
        return np.stack([self.targets_P[axis] for axis in 'xyz'], axis=-1)


@dataclass(frozen=True)
class _Echoes:
    """Merged echoes before noise: polar place, body, cross section, velocity over ground (sensor axes)."""

    range_H: np.ndarray
    angle_H: np.ndarray
    track_H: np.ndarray
    rcs_H: np.ndarray
    velocity_H2: np.ndarray


def class_rcs_dbsm(category: str) -> float:
    """Mean radar cross section of a nuScenes category at 77 GHz, dB over one square metre."""
    return next((value for prefix, value in _RCS_BY_PREFIX if category.startswith(prefix)), -6.0)


def encode_radar_pcd(scan: RadarScan) -> bytes:
    """The scan as a nuScenes radar file."""
    return radar_pcd_bytes(scan.targets_P)


def _merge(range_R: np.ndarray, angle_R: np.ndarray, track_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the rays of one body that fall into one cell of range and angle.

    Returns:
        the row of the nearest ray of each cell, and the number of rays of each cell.
    """
    key = np.stack([track_R, np.floor(range_R / _CELL_RANGE_M), np.floor(angle_R / _CELL_ANGLE_RAD)])
    order = np.lexsort((range_R, key[2], key[1], key[0]))
    change = np.any(np.diff(key[:, order], axis=1) != 0, axis=0)
    first = np.flatnonzero(np.concatenate([[True], change])) if len(order) else np.zeros(0, int)
    return order[first], np.diff(np.append(first, len(order)))


def _in_view(radar: RadarSensor, range_m: np.ndarray, angle_rad: np.ndarray) -> np.ndarray:
    near = (np.abs(angle_rad) < radar.near_half_angle_rad) & (range_m < radar.near_range_m)
    far = (np.abs(angle_rad) < radar.far_half_angle_rad) & (range_m < radar.far_range_m)
    return (near | far) & (range_m > 0.3)


def _sensor_motion(snapshot: Snapshot, radar: RadarSensor) -> tuple[np.ndarray, np.ndarray]:
    """(global_R_radar (2, 2), velocity of the radar over ground in its own axes (2,))."""
    ego, t_s = snapshot.scene.ego, snapshot.t_s
    global_R_radar = (snapshot.global_T_ego @ radar.ego_T_radar)[:2, :2]

    # a sensor away from the rear axle also moves with the car's rotation
    lever = snapshot.global_T_ego[:2, :2] @ radar.ego_T_radar[:2, 3]
    velocity = ego.velocity_at(t_s)[:2] + ego.yaw_rate_at(t_s) * np.array([-lever[1], lever[0]])
    return global_R_radar, velocity @ global_R_radar


def _depth_of_echo_m(size_lwh_m: np.ndarray) -> float:
    """How far behind the first surface the echo's centre lies: wheel arches, cabins, not the paint."""
    return float(min(0.35, 0.3 * size_lwh_m.min()))


def _velocities(
    snapshot: Snapshot, track_H: np.ndarray, xy_H2: np.ndarray, global_R_radar: np.ndarray
) -> np.ndarray:
    """(H, 2) velocity over ground of the point hit, sensor axes; 0 for structure."""
    velocity = np.zeros((len(track_H), 2))
    rows = np.flatnonzero(track_H >= 0)
    vx, vy, yaw_rate = snapshot.geometry.velocities_at(snapshot.t_s)[track_H[rows]].T
    arm = xy_H2[rows] - snapshot.poses_M6[track_H[rows], :2]
    velocity[rows, 0], velocity[rows, 1] = vx - yaw_rate * arm[:, 1], vy + yaw_rate * arm[:, 0]
    return velocity @ global_R_radar


def _echoes(snapshot: Snapshot, radar: RadarSensor) -> _Echoes:
    """All merged echoes in the field of view, ground left out."""
    local_T_radar = snapshot.local_T_ego @ radar.ego_T_radar
    rays = ray_table(_AZIMUTHS, 0.0, _ELEVATIONS_RAD)
    reach_m = min(radar.far_range_m, snapshot.geometry.reach_m)
    raw = cast_scan(snapshot, local_T_radar, rays, 0.0, _ELEVATIONS_RAD, reach_m)

    # rays that meet a face: R rows, of which those in the field of view stay
    azimuth, elevation = np.nonzero(raw.face_AE >= 0)
    range_R = (raw.range_AE[azimuth, elevation] * np.cos(_ELEVATIONS_RAD[elevation])).astype(np.float64)
    angle_R = (2.0 * np.pi * azimuth / _AZIMUTHS + np.pi) % (2.0 * np.pi) - np.pi
    seen = _in_view(radar, range_R, angle_R)
    azimuth, elevation = azimuth[seen], elevation[seen]
    range_R, angle_R = range_R[seen], angle_R[seen]

    # echoes: H rows, one for each body and cell, at its nearest ray
    track_R = snapshot.track_F[raw.face_AE[azimuth, elevation]].astype(np.int64)
    rows, rays_per_cell = _merge(range_R, angle_R, track_R)
    track_H, cosine_H = track_R[rows], raw.cosine_AE[azimuth, elevation][rows]
    material_H = raw.material_AE[azimuth, elevation][rows]
    rcs_H = _cross_sections(snapshot, track_H, material_H, cosine_H, rays_per_cell)

    depth_H = np.array([_depth_of_echo_m(snapshot.scene.tracks[index].size_lwh_m) if index >= 0 else 0.0
                        for index in track_H])
    range_H, angle_H = range_R[rows] + depth_H, angle_R[rows]
    direction_H2 = np.stack([np.cos(angle_H), np.sin(angle_H)], -1)
    local_R_radar = local_T_radar[:2, :2]
    xy_H2 = local_T_radar[:2, 3] + range_H[:, None] * direction_H2 @ local_R_radar.T
    return _Echoes(range_H, angle_H, track_H, rcs_H, _velocities(snapshot, track_H, xy_H2, local_R_radar))


def _cross_sections(snapshot: Snapshot, track_H: np.ndarray, material_H: np.ndarray, cosine_H: np.ndarray,
                    rays_per_cell_H: np.ndarray) -> np.ndarray:
    """(H,) mean radar cross sections in dBsm: by class for objects, by material and size for structure."""
    categories = [snapshot.scene.tracks[index].category if index >= 0 else '' for index in track_H]
    of_class = np.array([class_rcs_dbsm(name) for name in categories]) if len(track_H) else np.zeros(0)
    of_structure = _MATERIAL_RCS[material_H] + 3.0 * np.log10(rays_per_cell_H)
    aspect = 10.0 * np.log10(0.25 + 0.75 * np.clip(cosine_H, 0.0, 1.0) ** 2)
    return np.where(track_H >= 0, of_class, of_structure) + aspect


def _heard(echoes: _Echoes, rain_rate: float, rng: np.random.Generator) -> _Echoes:
    """The echoes that are heard, with fluctuating cross sections.

    By the radar equation echoes fall with the fourth power of range.
    """
    rcs = echoes.rcs_H + rng.normal(0.0, 2.5, len(echoes.rcs_H))
    level = rcs - 40.0 * np.log10(np.maximum(echoes.range_H, 3.0) / 50.0) - 3.0 * rain_rate
    reported = np.where(echoes.track_H >= 0, _REPORTED_OF_OBJECTS, _REPORTED_OF_STRUCTURE)
    rows = np.flatnonzero((level > _HEARD_DBSM_AT_50_M) & (rng.random(len(rcs)) < reported))
    return _Echoes(echoes.range_H[rows], echoes.angle_H[rows], echoes.track_H[rows], rcs[rows],
                   echoes.velocity_H2[rows])


def _dynamic_property(
    velocity_P2: np.ndarray, direction_P2: np.ndarray, is_object_P: np.ndarray
) -> np.ndarray:
    """The ARS 408's dyn_prop code from the true motion over ground."""
    speed = np.linalg.norm(velocity_P2, axis=1)
    along = np.sum(velocity_P2 * direction_P2, axis=1) / np.maximum(speed, 1e-6)
    moving = np.where(along > 0.6, MOVING, np.where(along < -0.6, ONCOMING, CROSSING_MOVING))
    return np.where(speed > _MOVING_M_PER_S, moving, np.where(is_object_P, STATIONARY_CANDIDATE, STATIONARY))


def _measure(echoes: _Echoes, sensor_velocity_2: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Targets with measured (noisy) place and speed; their states say valid and unambiguous.

    Args:
        echoes: H of them.
        sensor_velocity_2: velocity of the radar over ground, sensor axes.
        rng: draws the noise.

    Returns:
        (H,) of `RADAR_DTYPE`.
    """
    count = len(echoes.range_H)
    distance = echoes.range_H + rng.normal(0.0, _RANGE_NOISE_M, count)
    angle = echoes.angle_H + rng.normal(0.0, _ANGLE_NOISE_RAD, count)
    direction = np.stack([np.cos(angle), np.sin(angle)], -1)

    # Doppler gives the speed along the line of sight, over ground and relative to the moving sensor
    along = np.sum(echoes.velocity_H2 * direction, axis=1)
    over_ground = along + rng.normal(0.0, _SPEED_NOISE_M_PER_S, count)
    relative = over_ground - direction @ sensor_velocity_2

    targets = np.zeros(count, RADAR_DTYPE)
    targets['x'], targets['y'] = distance * direction[:, 0], distance * direction[:, 1]
    targets['vx_comp'], targets['vy_comp'] = over_ground * direction[:, 0], over_ground * direction[:, 1]
    targets['vx'], targets['vy'] = relative * direction[:, 0], relative * direction[:, 1]
    targets['rcs'] = np.round(2.0 * echoes.rcs_H) / 2.0
    targets['dyn_prop'] = _dynamic_property(echoes.velocity_H2, direction, echoes.track_H >= 0)

    targets['is_quality_valid'], targets['ambig_state'], targets['pdh0'] = 1, 3, 1
    targets['x_rms'] = targets['y_rms'] = np.clip(17 + echoes.range_H / 20.0, 0, 30)
    targets['vx_rms'] = targets['vy_rms'] = 3
    return targets


def _ghosts(real: np.ndarray, track_P: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Double bounces of strong objects: twice the range and relative speed; most are flagged as mirrored."""
    strong = np.flatnonzero((track_P >= 0) & (real['rcs'] > 8.0) & (rng.random(len(real)) < 0.06))
    ghosts = real[strong]
    for name in ('x', 'y', 'vx', 'vy'):
        ghosts[name] *= 2.0
    for name in ('vx_comp', 'vy_comp'):
        ghosts[name] += ghosts[name.removesuffix('_comp')] / 2.0
    ghosts['rcs'] -= 10.0
    ghosts['pdh0'] = 4
    ghosts['invalid_state'] = np.where(rng.random(len(ghosts)) < 0.85, MIRROR, VALID)
    return ghosts


def _clutter(
    radar: RadarSensor, sensor_velocity_2: np.ndarray, rain_rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Echoes of nothing one can name: kerbs, manhole covers, the bumper; about two thirds are flagged."""
    count = rng.poisson(9.0 * (1.0 + rain_rate))
    angle = rng.uniform(-radar.near_half_angle_rad, radar.near_half_angle_rad, count)
    distance = rng.uniform(1.0, radar.near_range_m, count) * rng.random(count) ** 0.5
    echoes = _Echoes(distance, angle, np.full(count, -1), rng.normal(-8.0, 4.0, count), np.zeros((count, 2)))

    clutter = _measure(echoes, sensor_velocity_2, rng)
    flag = np.where(distance < 3.0, NEAR_FIELD, LOW_RCS)
    clutter['invalid_state'] = np.where(rng.random(count) < 0.65, flag, VALID)
    clutter['ambig_state'] = np.where(rng.random(count) < 0.15, 4, 3)
    clutter['pdh0'] = rng.integers(1, 6, count)
    return clutter


def scan_radar(scene: WorldScene | SceneGeometry | Snapshot, t_s: float, radar: RadarSensor,
               rng: np.random.Generator) -> RadarScan:
    """Measure once with `radar` at `t_s`.

    Args:
        scene: the scene; pass a `SceneGeometry` (or the snapshot at `t_s`) to share the work between
            sensors.
        t_s: seconds since the scene's start.
        radar: where it sits and what it can see.
        rng: draws fluctuation, noise, clutter and ghosts.

    Returns:
        Up to 125 targets. Those on objects and structure are valid and unambiguous; clutter and ghosts mostly
        carry an invalid state, and some slip through, as in real data.
    """
    snapshot = snapshot_of(scene, t_s)
    _, sensor_velocity = _sensor_motion(snapshot, radar)
    rain_rate = snapshot.scene.weather.rain_rate

    heard = _heard(_echoes(snapshot, radar), rain_rate, rng)
    track = heard.track_H
    real = _measure(heard, sensor_velocity, rng)
    false = np.concatenate([_ghosts(real, track, rng), _clutter(radar, sensor_velocity, rain_rate, rng)])
    targets = np.concatenate([real, false])
    tracks = np.concatenate([track, np.full(len(false), -1)]).astype(np.int16)

    # a radar reports its nearest targets only
    order = np.argsort(np.hypot(targets['x'], targets['y']), kind='stable')[:_MAX_TARGETS]
    targets, tracks = targets[order], tracks[order]
    targets['id'] = np.arange(len(targets))
    return RadarScan(targets, tracks)
