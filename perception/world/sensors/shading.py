"""Deferred shading: from depth and face per pixel to light, material and object per pixel.

Lambert's law with sun and ambient light, cast shadows, value-noise texture, window patterns, glossy
reflection of the sky (Schlick 1994), clouds, wet ground, street lamps and headlights in the dark, fog. The
ground's paint is box-filtered over each pixel's footprint, so that thin lane paint neither jags nor flickers.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

from .ground import ground_material, height_of_ground
from .looks import COURSES, GLOSS, GLOW, NOISE, PANES, PATTERN, SCALE
from .shadow import is_shadowed

__all__ = ['shade_pixels', 'hash_01']

_FAST = {'cache': True, 'nogil': True, 'fastmath': True, 'error_model': 'numpy'}
_LAMP_PITCH_M, _LAMP_POOL_M = 30.0, 8.0
_LAMP_X_M, _LAMP_Z_M = 3.7, 0.7


@njit(**_FAST)
def hash_01(x, y, seed):
    """A repeatable number in [0, 1) for a lattice point."""
    h = (np.uint32(x) * np.uint32(0x9E3779B1) ^ np.uint32(y) * np.uint32(0x85EBCA77)
         ^ np.uint32(seed) * np.uint32(0xC2B2AE3D))
    h = np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = np.uint32(h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    return np.uint32(h ^ (h >> np.uint32(15))) * (1.0 / 4294967296.0)


@njit(**_FAST)
def _noise(u, v, seed):
    """Smooth value noise in [-1, 1] with one grain per unit."""
    iu, iv = math.floor(u), math.floor(v)
    fu, fv = u - iu, v - iv
    i, j = int(iu), int(iv)
    low = hash_01(i, j, seed) * (1.0 - fu) + hash_01(i + 1, j, seed) * fu
    high = hash_01(i, j + 1, seed) * (1.0 - fu) + hash_01(i + 1, j + 1, seed) * fu
    return 2.0 * (low * (1.0 - fv) + high * fv) - 1.0


@njit(**_FAST)
def _texture(look, u, v, seed, footprint):
    """Brightness factor of a surface at (u, v) metres; the grain fades where a pixel covers several."""
    fade = 1.0 / (1.0 + (footprint * look[SCALE]) ** 2)
    factor = 1.0 + look[NOISE] * 0.5 * _noise(u * 0.35, v * 0.35, seed + 7)
    if fade > 0.1:
        factor += look[NOISE] * 0.7 * fade * _noise(u * look[SCALE], v * look[SCALE], seed)
    if look[PATTERN] == COURSES and footprint < 0.3:
        joint = u * 1.0 - math.floor(u * 1.0) < 0.04 or v * 1.0 - math.floor(v * 1.0) < 0.04
        if joint:
            factor *= 1.0 - 0.3 * (1.0 - footprint / 0.3)
    return factor


@njit(**_FAST)
def _sky(light, up, channel):
    """Sky radiance in a direction whose z component is `up`."""
    height = math.sqrt(min(max(up, 0.0), 1.0))
    return light.horizon_rgb[channel] * (1.0 - height) + light.zenith_rgb[channel] * height


@njit(**_FAST)
def _cloud(light, rx, ry, rz, norm):
    """Brightness factor of the clouds in a direction: a layer overhead that closes up towards the horizon."""
    if rz <= 0.0:
        return 1.0
    scale = 1.3 / (rz + 0.15 * norm)
    x, y = rx * scale, ry * scale
    return 1.0 + (1.0 - light.darkness) * (0.3 * _noise(x, y, 77) + 0.15 * _noise(2.7 * x, 2.7 * y, 78))


@njit(**_FAST)
def _lamps(light, ego_T_local, above, x, y, z, nx, ny, nz):
    """(street lamps, headlights): light at a point `above` the ground in the dark, relative to white."""
    # street lamps stand on a square lattice, each lights a round pool
    cell_x, cell_y = x / _LAMP_PITCH_M, y / _LAMP_PITCH_M
    dx = (cell_x - math.floor(cell_x) - 0.5) * _LAMP_PITCH_M
    dy = (cell_y - math.floor(cell_y) - 0.5) * _LAMP_PITCH_M
    street = 0.4 * math.exp(-(dx * dx + dy * dy) / (2.0 * _LAMP_POOL_M ** 2)) / (1.0 + 0.02 * above * above)

    # headlights: a flat, wide beam ahead of the ego
    T = ego_T_local
    forward = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3] - _LAMP_X_M
    left = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
    up = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3] - _LAMP_Z_M
    head = 0.0
    if forward > 0.3:
        reach = math.sqrt(forward * forward + left * left + up * up)
        rise = up / reach
        facing = -((T[0, 0] * nx + T[0, 1] * ny + T[0, 2] * nz) * forward
                   + (T[1, 0] * nx + T[1, 1] * ny + T[1, 2] * nz) * left
                   + (T[2, 0] * nx + T[2, 1] * ny + T[2, 2] * nz) * up) / reach
        beam = math.exp(-(left / forward) ** 2 / 0.35 - max(rise - 0.02, 0.0) ** 2 / 0.01)
        head = 130.0 * beam * max(facing, 0.06) / (reach * reach + 30.0)
    return street * light.darkness, head * light.darkness


@njit(**_FAST)
def _pane(x, y, z, nx, ny, footprint):
    """What a glass wall shows at a point: 0 dark glass, 1 frame, 2 a pane with light behind it."""
    along = (-ny * x + nx * y) / 1.6
    up = z / 3.4
    column, row = math.floor(along), math.floor(up)
    if footprint < 0.15 and (along - column < 0.06 or up - row < 0.05):
        return 1
    return 2 if hash_01(int(column), int(row), 31) < 0.25 else 0


@njit(**_FAST)
def _ground_albedo(ground, albedo, cam_x, cam_y, rx, ry, fall, height, du, dv, fall_u, fall_v, fine, far,
                   out):
    """Put the mean albedo over a pixel's footprint into `out`; returns the material at its centre.

    The ray falls by `fall` (negative) along the normal of the ground's plane, by `fall_u` and `fall_v` more
    from one column or row to the next, and begins `height` above it. The footprint is at least `fine` metres
    wide.
    """
    scale = -height / fall
    centre = ground_material(ground, cam_x + rx * scale, cam_y + ry * scale)
    mixed = False

    # eight samples, or four: far pixels cover much ground, near ones little
    rows = 4 if far or fine > 0.0 else 2
    out[0] = out[1] = out[2] = 0.0
    for sample in range(rows * 2):
        i = (sample * 3) % rows
        su = 0.5 * (sample // rows) - 0.25 + 0.2 * (i % 2 - 0.5)
        sv = (i + 0.5) / rows - 0.5
        sz = min(fall + su * fall_u + sv * fall_v, -1e-6)
        reach = -height / sz
        material = ground_material(ground, cam_x + (rx + su * du[0] + sv * dv[0]) * reach + su * fine,
                                   cam_y + (ry + su * du[1] + sv * dv[1]) * reach + sv * fine)
        mixed |= material != centre

        # after half the samples of one material the others are taken to be alike
        if sample == 3 and not mixed:
            break
        for channel in range(3):
            out[channel] += albedo[material, channel]

    for channel in range(3):
        out[channel] = out[channel] / (rows * 2) if mixed else albedo[centre, channel]
    return centre


@njit(**_FAST)
def shade_pixels(inverse_depth_HW, face_HW, patch_HW, intrinsics, local_T_cam, ego_T_local,  # seen from where
                 normals, material_F, track_F, pose_M6, ground, ground_normals, ground_F33,  # the snapshot
                 shadow, light, looks, albedo,  # its light, and the tables of all materials
                 radiance_HW3, depth_HW, track_HW, material_HW):  # out
    """Fill the frame's buffers.

    One long loop on purpose: split into helpers that take the light, it ran 1.7 times slower.

    Args:
        inverse_depth_HW: (H, W) float32 from the rasteriser.
        face_HW: (H, W) int32 from the rasteriser.
        patch_HW: (H, W) int32 triangle of the ground where it is in front of all faces, else -1.
        intrinsics: (fx, fy, cx, cy).
        local_T_cam: (4, 4).
        ego_T_local: (4, 4).
        normals: (F, 3) of the snapshot.
        material_F: (F,) of the snapshot.
        track_F: (F,) of the snapshot.
        pose_M6: (M, 6) of the snapshot.
        ground: a `GroundLookup`.
        ground_normals: (F', 3) of the ground's triangles.
        ground_F33: (F', 3, 3) of the snapshot.
        shadow: a `ShadowMap`.
        light: a `Light`.
        looks: the table of textures, gloss and glow by material.
        albedo: the table of colours by material.
        radiance_HW3: out, float32 linear RGB.
        depth_HW: out, float32 metres along the optical axis, 0 for sky.
        track_HW: out, int16, -1 for none.
        material_HW: out, uint8 (255 for sky).
    """
    fx, fy, cx, cy = intrinsics
    R = local_T_cam
    colour = np.empty(3)

    # the camera's place, and how the ray changes from one column or row to the next
    cam = np.empty(3)
    du = np.empty(3)
    dv = np.empty(3)
    for axis in range(3):
        cam[axis], du[axis], dv[axis] = R[axis, 3], R[axis, 0] / fx, R[axis, 1] / fy

    turn_M = np.empty((len(pose_M6), 2))
    for track in range(len(pose_M6)):
        turn_M[track, 0], turn_M[track, 1] = math.cos(pose_M6[track, 3]), math.sin(pose_M6[track, 3])

    for v in range(face_HW.shape[0]):
        for u in range(face_HW.shape[1]):
            # the pixel's ray in local axes, one metre deep
            px, py = (u - cx) / fx, (v - cy) / fy
            rx = R[0, 0] * px + R[0, 1] * py + R[0, 2]
            ry = R[1, 0] * px + R[1, 1] * py + R[1, 2]
            rz = R[2, 0] * px + R[2, 1] * py + R[2, 2]
            norm = math.sqrt(rx * rx + ry * ry + rz * rz)

            inverse = inverse_depth_HW[v, u]
            face = face_HW[v, u]
            track = -1
            glow, gloss, lit = 0.0, 0.0, False

            # the ground, where it is nearer than any face: paint is averaged over the pixel's footprint
            patch = patch_HW[v, u]
            if patch >= 0:
                # the triangle's plane: how high the camera is over it, how steeply the ray falls to it
                gx, gy, gz = ground_normals[patch, 0], ground_normals[patch, 1], ground_normals[patch, 2]
                height = (gx * (cam[0] - ground_F33[patch, 0, 0]) + gy * (cam[1] - ground_F33[patch, 0, 1])
                          + gz * (cam[2] - ground_F33[patch, 0, 2]))
                fall = min(gx * rx + gy * ry + gz * rz, -1e-6)
                depth = -height / fall
                x, y, z = cam[0] + rx * depth, cam[1] + ry * depth, cam[2] + rz * depth
                nx, ny, nz = 0.0, 0.0, 1.0

                footprint = depth / fx
                along = -footprint * norm / fall
                material = _ground_albedo(
                    ground, albedo, cam[0], cam[1], rx, ry, fall, height, du, dv,
                    gx * du[0] + gy * du[1] + gz * du[2], gx * dv[0] + gy * dv[1] + gz * dv[2],
                    max(0.0, 0.17 - footprint), along > 0.15, colour)
                factor = _texture(looks[material], x, y, material, math.sqrt(footprint * along))
                gloss = light.wetness * 0.35

            # a face: texture lies on it in the axes of its object, so that it moves with the object
            elif face >= 0:
                depth = 1.0 / inverse
                x, y, z = cam[0] + rx * depth, cam[1] + ry * depth, cam[2] + rz * depth
                nx, ny, nz = normals[face, 0], normals[face, 1], normals[face, 2]
                material, track = int(material_F[face]), int(track_F[face])
                look = looks[material]
                footprint = depth / fx

                tx, ty, tz = x, y, z
                ax, ay = nx, ny
                if track >= 0:
                    dx, dy = x - pose_M6[track, 0], y - pose_M6[track, 1]
                    cos, sin = turn_M[track, 0], turn_M[track, 1]
                    tx, ty, tz = cos * dx + sin * dy, cos * dy - sin * dx, z - pose_M6[track, 2]
                    ax, ay = cos * nx + sin * ny, cos * ny - sin * nx

                # from above, from the front or from the side, whichever the face looks to most
                if abs(nz) > 0.7:
                    factor = _texture(look, tx, ty, material, footprint)
                elif abs(ax) > abs(ay):
                    factor = _texture(look, ty, tz, material, footprint)
                else:
                    factor = _texture(look, tx, tz, material, footprint)
                if track >= 0:
                    factor *= 0.8 + 0.4 * hash_01(track, material, 5)

                for channel in range(3):
                    colour[channel] = albedo[material, channel]
                glow, gloss = look[GLOW], look[GLOSS]
                if look[PATTERN] == PANES:
                    pane = _pane(x, y, z, nx, ny, footprint)
                    if pane == 1:
                        colour[0] = colour[1] = colour[2] = 0.35
                        gloss = 0.0
                    lit = pane == 2

            else:
                cloud = _cloud(light, rx, ry, rz, norm)
                for channel in range(3):
                    radiance_HW3[v, u, channel] = _sky(light, rz / norm, channel) * cloud
                depth_HW[v, u], track_HW[v, u], material_HW[v, u] = 0.0, -1, 255
                continue

            # direct light, unless something stands between the point and the sun
            sun = light.sun_direction[0] * nx + light.sun_direction[1] * ny + light.sun_direction[2] * nz
            if sun > 0.0 and is_shadowed(shadow, x + 0.08 * nx, y + 0.08 * ny, z + 0.08 * nz):
                sun = 0.0
            sun = max(sun, 0.0)

            # how much of the sky a face sees: least under overhangs and, if upright, close to the ground
            open_sky = 0.62 + 0.38 * nz
            above = 0.0
            if nz < 0.5:
                above = max(z - height_of_ground(ground, x, y), 0.0)
                open_sky *= min(0.4 + above, 1.0)
            street, head = 0.0, 0.0
            if light.darkness > 0.0:
                street, head = _lamps(light, ego_T_local, above, x, y, z, nx, ny, nz)

            # the sky in glossy surfaces (Schlick 1994)
            mirror, up = 0.0, 0.0
            if gloss > 0.0:
                facing = max(0.0, -(rx * nx + ry * ny + rz * nz) / norm)
                mirror = gloss * (0.05 + 0.95 * (1.0 - facing) ** 5)
                up = (rz / norm) + 2.0 * facing * nz

            # wet ground is darker; fog veils what is far
            clear = math.exp(-light.fog_per_m * depth * norm)
            damp = factor * (1.0 - 0.35 * light.wetness * (nz > 0.9))
            for channel in range(3):
                irradiance = light.ambient_rgb[channel] * open_sky + light.sun_rgb[channel] * sun + head
                irradiance += street * (1.0 - 0.22 * channel)
                value = colour[channel] * damp * irradiance
                if mirror > 0.0:
                    visible = 1.0 if up > 0.0 else 0.3
                    value = value * (1.0 - mirror) + mirror * _sky(light, up, channel) * visible
                value += glow * colour[channel] * light.darkness
                if lit:
                    value += (0.45 - 0.13 * channel) * light.darkness
                radiance_HW3[v, u, channel] = value * clear + light.horizon_rgb[channel] * (1.0 - clear)

            depth_HW[v, u], track_HW[v, u], material_HW[v, u] = depth, track, material
