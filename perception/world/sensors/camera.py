"""A camera's picture of the scene at one instant, with depth, object and material per pixel.

Shape letters: H W image rows and columns.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ...core.lens import Distortion
from ...core.lens.views import views_of
from ...core.rig.sensors import CameraSensor
from ..scene.scene import WorldScene
from ..scene.weather import Weather
from .ground import ground_lookup
from .lens import add_rain
from .looks import ALBEDO, LOOKS, light_of
from .rasterise import rasterise_faces, stamp_faces
from .shading import hash_01, shade_pixels
from .shadow import cast_shadows
from .triangles import SceneGeometry, Snapshot, snapshot_of

__all__ = ['CameraFrame', 'render_camera', 'SKY_MATERIAL']

SKY_MATERIAL = 255
_CURVE_STEPS = 4096
_CURVE_END = 4.0
_CONTRAST = 1.0
"""Part of the S-curve 3v^2 - 2v^3 in the response: images vary as much in brightness as real ones."""


@dataclass(frozen=True)
class CameraFrame:
    """The image of a camera with its ground truth per pixel.

    Attributes:
        image_HW3: uint8 RGB.
        depth_HW: float32 metres along the optical axis, from a fisheye the distance; 0 for sky.
        track_id_HW: int16 index of the object, -1 for none.
        material_HW: uint8, 255 for sky.
        alone_px_M: (all objects,) int64, pixels each object would fill if nothing stood before it.
    """

    image_HW3: np.ndarray
    depth_HW: np.ndarray
    track_id_HW: np.ndarray
    material_HW: np.ndarray
    alone_px_M: np.ndarray


def _response_curve() -> np.ndarray:
    """Linear light in [0, 4) to 8 bits: an exponential shoulder, gamma 2.2, then a camera's contrast."""
    light = np.arange(_CURVE_STEPS) * (_CURVE_END / _CURVE_STEPS)
    value = (1.0 - np.exp(-1.05 * light)) ** (1.0 / 2.2)
    steep = value * value * (3.0 - 2.0 * value)
    return (255.0 * ((1.0 - _CONTRAST) * value + _CONTRAST * steep)).astype(np.float32)


_CURVE = _response_curve()


@njit(cache=True, nogil=True, fastmath=True)
def _develop(radiance_HW3, exposure, noise, seed, curve, image_HW3):
    """Expose, add sensor noise (stronger where dark) and store as 8 bits."""
    height, width = radiance_HW3.shape[:2]
    last, scale = len(curve) - 1, exposure * (len(curve) / _CURVE_END)
    for v in range(height):
        for u in range(width):
            luck = int(hash_01(u, v, seed) * 1073741824.0)
            for channel in range(3):
                value = curve[min(int(radiance_HW3[v, u, channel] * scale), last)]
                grain = ((luck >> (10 * channel)) & 1023) * (1.0 / 1023.0) - 0.5
                value += noise * grain * (1.6 - value * (1.0 / 255.0)) + 0.5
                image_HW3[v, u, channel] = int(min(max(value, 0.0), 255.0))


def exposure_of(weather: Weather) -> float:
    """Gain that brings the ground to a middle grey; the dark is only partly lifted, as real cameras do."""
    light = float(np.mean(weather.ambient_rgb) + 0.45 * np.mean(weather.sun_rgb))
    return min((1.0 / max(light, 1e-3)) ** 0.75, 2.0) * (1.0 - 0.2 * light_of(weather).darkness)


def _pixels_alone(snapshot: Snapshot, cam_T_local: np.ndarray, intrinsics: tuple[float, float, float, float],
                  weight_HW: np.ndarray) -> np.ndarray:
    """(all objects,) pixels each object covers when drawn alone; a pixel counts by its weight."""
    count = np.zeros(len(snapshot.poses_M6), np.int64)
    stamp = np.full(weight_HW.shape, -1, np.int32)
    rows = slice(int(snapshot.first_face_M1[0]), int(snapshot.first_face_M1[-1]))
    stamp_faces(
        snapshot.triangles_F33[rows], snapshot.track_F[rows], cam_T_local, *intrinsics, weight_HW, stamp,
        count)
    return count


def _draw(snapshot: Snapshot, local_T_cam: np.ndarray, K: np.ndarray,
          weight_HW: np.ndarray) -> tuple[np.ndarray, CameraFrame]:
    """Light (H, W, 3) and truth of a pinhole view; the frame's image is not filled."""
    size_hw = weight_HW.shape
    intrinsics = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
    cam_T_local = np.linalg.inv(local_T_cam)

    # which face each pixel shows: 1/depth and face, (H, W)
    inverse, face = np.zeros(size_hw, np.float32), np.full(size_hw, -1, np.int32)
    rasterise_faces(snapshot.triangles_F33, cam_T_local, *intrinsics, inverse, face)

    # and where the ground is in front of that
    patch = np.full(size_hw, -1, np.int32)
    rasterise_faces(snapshot.ground_F33, cam_T_local, *intrinsics, inverse, patch)

    # what light it sends: linear RGB (H, W, 3), and the ground truth on the way
    radiance = np.empty((*size_hw, 3), np.float32)
    frame = CameraFrame(
        image_HW3=np.empty((*size_hw, 3), np.uint8),
        depth_HW=np.empty(size_hw, np.float32),
        track_id_HW=np.empty(size_hw, np.int16),
        material_HW=np.empty(size_hw, np.uint8),
        alone_px_M=_pixels_alone(snapshot, cam_T_local, intrinsics, weight_HW))
    shade_pixels(
        inverse, face, patch, intrinsics, local_T_cam, np.linalg.inv(snapshot.local_T_ego),
        snapshot.normals_F3, snapshot.material_F, snapshot.track_F, snapshot.poses_M6,
        ground_lookup(snapshot.geometry), snapshot.ground_normal_F3, snapshot.ground_F33,
        cast_shadows(snapshot), light_of(snapshot.scene.weather), LOOKS,
        ALBEDO, radiance, frame.depth_HW, frame.track_id_HW, frame.material_HW)
    return radiance, frame


def _draw_through(snapshot: Snapshot, local_T_cam: np.ndarray, K: np.ndarray, size_hw: tuple[int, int],
                  lens: Distortion) -> tuple[np.ndarray, CameraFrame]:
    """As `_draw` through a lens: pinhole views of its field, resampled; black where no ray comes from."""
    radiance = np.zeros((*size_hw, 3), np.float32)
    frame = CameraFrame(
        image_HW3=np.empty((*size_hw, 3), np.uint8),
        depth_HW=np.zeros(size_hw, np.float32),
        track_id_HW=np.full(size_hw, -1, np.int16),
        material_HW=np.full(size_hw, SKY_MATERIAL, np.uint8),
        alone_px_M=np.zeros(len(snapshot.poses_M6), np.int64))

    for view in views_of(K, size_hw, lens):
        light, part = _draw(snapshot, local_T_cam @ view.cam_T_view, view.K_33, view.weight_HW)
        radiance.reshape(-1, 3)[view.pixel_P] = view.resample(light)

        # truth cannot be mixed: that of the nearest pixel
        for name in ('track_id_HW', 'material_HW'):
            getattr(frame, name).ravel()[view.pixel_P] = getattr(part, name).ravel()[view.nearest_P]
        depth_P = part.depth_HW.ravel()[view.nearest_P] * view.depth_factor()
        frame.depth_HW.ravel()[view.pixel_P] = depth_P
        frame.alone_px_M[:] += part.alone_px_M
    return radiance, frame


def render_camera(scene: WorldScene | SceneGeometry | Snapshot, t_s: float, camera: CameraSensor,
                  size_hw: tuple[int, int], rng: np.random.Generator) -> CameraFrame:
    """Draw the scene at `t_s` as `camera` sees it.

    Args:
        scene: the scene; pass a `SceneGeometry` (or the snapshot at `t_s`) to share the work between
            sensors.
        t_s: seconds since the scene's start.
        camera: pose, native intrinsics and lens; see `core.lens.views` for how a lens is drawn.
        size_hw: pixels to draw (rows, columns); the intrinsics follow by `camera.intrinsics_for(size_hw)`.
        rng: draws exposure, noise and rain drops.
    """
    snapshot = snapshot_of(scene, t_s)
    weather = snapshot.scene.weather
    K, lens = camera.intrinsics_for(size_hw), camera.distortion
    local_T_cam = snapshot.local_T_ego @ camera.ego_T_cam
    if lens is None or lens.is_pinhole:
        radiance, frame = _draw(snapshot, local_T_cam, K, np.ones(size_hw, np.int64))
    else:
        radiance, frame = _draw_through(snapshot, local_T_cam, K, size_hw, lens)

    # what the sensor makes of that light
    gain = exposure_of(weather) * float(np.exp(rng.normal(0.0, 0.06)))
    grain = 26.0 if weather.kind == 'night' else 9.0
    if weather.rain_rate > 0:
        radiance = add_rain(radiance, weather.rain_rate, rng)
    _develop(radiance, gain, grain, int(rng.integers(2 ** 31)), _CURVE, frame.image_HW3)
    return frame
