"""Low-poly building blocks: boxes, tapered boxes, prisms, cylinders, balls. Faces look outwards."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scene.materials import MATERIAL_ID
from ..scene.mesh import Mesh, pose_matrix

_BOX_FACES = np.array([[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7], [0, 1, 5], [0, 5, 4],
                       [1, 2, 6], [1, 6, 5], [2, 3, 7], [2, 7, 6], [3, 0, 4], [3, 4, 7]])
_PHI = (1 + 5 ** 0.5) / 2
_ICOSAHEDRON = np.array(
    [
        [-1, _PHI, 0], [1, _PHI, 0], [-1, -_PHI, 0], [1, -_PHI, 0], [0, -1, _PHI], [0, 1, _PHI],
        [0, -1, -_PHI], [0, 1, -_PHI], [_PHI, 0, -1], [_PHI, 0, 1], [-_PHI, 0, -1], [-_PHI, 0, 1]]
)
_ICOSAHEDRON_FACES = np.array(
    [
        [0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4], [11, 10, 2],
        [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9], [4, 9, 5], [2, 4, 11],
        [6, 2, 10], [8, 6, 7], [9, 8, 1]]
)


def _mesh(vertices: np.ndarray, faces: np.ndarray, material: str) -> Mesh:
    return Mesh(vertices, faces, np.full(len(faces), MATERIAL_ID[material]))


def box(x_m: Sequence[float], y_m: Sequence[float], z_m: Sequence[float], material: str) -> Mesh:
    """An axis-aligned box of 12 triangles between (low, high) pairs."""
    corners = [(x, y, z) for z in z_m for x, y in ((x_m[0], y_m[0]), (x_m[1], y_m[0]), (x_m[1], y_m[1]),
                                                   (x_m[0], y_m[1]))]
    return _mesh(np.array(corners), _BOX_FACES, material)


def frustum(bottom_x: Sequence[float], top_x: Sequence[float], bottom_half_y: float, top_half_y: float,
            z_m: Sequence[float], material: str) -> Mesh:
    """A box whose top is shorter or narrower than its bottom (a car's cabin)."""
    corners = []
    for (x0, x1), half, z in ((bottom_x, bottom_half_y, z_m[0]), (top_x, top_half_y, z_m[1])):
        corners += [(x0, -half, z), (x1, -half, z), (x1, half, z), (x0, half, z)]
    return _mesh(np.array(corners), _BOX_FACES, material)


def wedge(x_m: Sequence[float], half_y: float, z_low: float, z_rear: float, z_front: float,
          material: str) -> Mesh:
    """A box whose lid slopes from `z_rear` at its rear end to `z_front` at its front (a bonnet)."""
    low, high = x_m
    floor = [(low, -half_y, z_low), (high, -half_y, z_low), (high, half_y, z_low), (low, half_y, z_low)]
    lid = [(low, -half_y, z_rear), (high, -half_y, z_front), (high, half_y, z_front), (low, half_y, z_rear)]
    return _mesh(np.array([*floor, *lid]), _BOX_FACES, material)


def quad_face(corners_43: np.ndarray, material: str) -> Mesh:
    """Two triangles over four corners, counter-clockwise seen from outside."""
    return _mesh(np.asarray(corners_43), np.array([[0, 1, 2], [0, 2, 3]]), material)


def prism(radius_bottom: float, radius_top: float, z_m: Sequence[float], material: str, sides: int = 6,
          xy: Sequence[float] = (0.0, 0.0)) -> Mesh:
    """An upright prism or cone frustum of `sides` sides with a lid and a floor."""
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    low = np.column_stack([ring * radius_bottom + xy, np.full(sides, z_m[0])])
    high = np.column_stack([ring * radius_top + xy, np.full(sides, z_m[1])])
    faces = []
    for k in range(sides):
        n = (k + 1) % sides
        faces += [[k, n, sides + n], [k, sides + n, sides + k]]
    for k in range(1, sides - 1):
        faces += [[0, k + 1, k], [sides, sides + k, sides + k + 1]]
    return _mesh(np.concatenate([low, high]), np.array(faces), material)


def wheel(x_m: float, y_m: float, radius_m: float, half_width_m: float, z_axle_m: float, sides: int = 7,
          material: str = 'tyre') -> Mesh:
    """A wheel: a short cylinder about an axle along y; both faces carry the tyre's material."""
    upright = prism(radius_m, radius_m, (-half_width_m, half_width_m), material, sides)
    x, y, z = upright.vertices_V3.T
    return _mesh(np.column_stack([x + x_m, -z + y_m, y + z_axle_m]), upright.faces_F3, material)


def ball(centre: Sequence[float], radii: Sequence[float], material: str) -> Mesh:
    """An icosahedron stretched to three radii (20 triangles)."""
    unit = _ICOSAHEDRON / np.linalg.norm(_ICOSAHEDRON[0])
    return _mesh(unit * np.asarray(radii) + np.asarray(centre), _ICOSAHEDRON_FACES, material)


def beam(
    start: Sequence[float], end: Sequence[float], half_y: float, half_thick: float, material: str
) -> Mesh:
    """A slender box from one point to another in a plane y = const (limbs, booms, struts)."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    length = float(np.linalg.norm(along))
    along = along / length
    side = np.array([0.0, 1.0, 0.0])
    up = np.cross(along, side)
    matrix = np.eye(4)
    matrix[:3, 0] = along
    matrix[:3, 1] = side
    matrix[:3, 2] = up
    matrix[:3, 3] = start
    return box((0.0, length), (-half_y, half_y), (-half_thick, half_thick), material).transform(matrix)


def placed(mesh: Mesh, xy_m: Sequence[float], yaw_rad: float = 0.0, z_m: float = 0.0) -> Mesh:
    """`mesh` turned about z and moved."""
    return mesh.transform(pose_matrix((*xy_m, z_m), yaw_rad))


def fitted(parts: Sequence[Mesh], size_lwh_m: Sequence[float]) -> Mesh:
    """The parts in one mesh, stretched and centred so that its bounds are exactly the box."""
    merged = Mesh.merge(list(parts))
    low, high = merged.vertices_V3.min(axis=0), merged.vertices_V3.max(axis=0)
    unit = (merged.vertices_V3 - 0.5 * (low + high)) / (high - low)
    return Mesh(unit * np.asarray(size_lwh_m, np.float64), merged.faces_F3, merged.material_F)
