"""Triangle meshes with one material per face.

Shape letters: V vertices, F faces.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .materials import MATERIALS

__all__ = ['Mesh', 'pose_matrix']


@dataclass(frozen=True)
class Mesh:
    """Triangles with one material each; faces run counter-clockwise seen from outside.

    Attributes:
        vertices_V3: (V, 3) float32, metres.
        faces_F3: (F, 3) int32, indices into the vertices.
        material_F: (F,) uint8, indices into `MATERIALS`.

    Raises:
        ValueError: a shape is wrong, or an index points nowhere.
    """

    vertices_V3: np.ndarray
    faces_F3: np.ndarray
    material_F: np.ndarray

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices_V3, np.float32).reshape(-1, 3)
        faces = np.ascontiguousarray(self.faces_F3, np.int32).reshape(-1, 3)
        object.__setattr__(self, 'vertices_V3', vertices)
        object.__setattr__(self, 'faces_F3', faces)
        object.__setattr__(self, 'material_F', np.ascontiguousarray(self.material_F, np.uint8).reshape(-1))

        if len(self.material_F) != len(self.faces_F3):
            raise ValueError(
                f'Mesh: {len(self.faces_F3)} faces need as many materials, found {len(self.material_F)}'
            )
        if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise ValueError(f'Mesh: face indices must lie in [0, {len(vertices)}), found '
                             f'[{faces.min()}, {faces.max()}]')
        if len(self.material_F) and self.material_F.max() >= len(MATERIALS):
            raise ValueError(
                f'Mesh: material ids must be below {len(MATERIALS)}, found {self.material_F.max()}'
            )

    @classmethod
    def empty(cls) -> Mesh:
        """A mesh without faces."""
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))

    @classmethod
    def merge(cls, meshes: Sequence[Mesh]) -> Mesh:
        """All faces of `meshes` in one mesh, in order."""
        if not meshes:
            return cls.empty()
        offsets = np.cumsum([0] + [len(mesh.vertices_V3) for mesh in meshes[:-1]])
        faces = [mesh.faces_F3 + offset for mesh, offset in zip(meshes, offsets, strict=True)]
        return cls(np.concatenate([mesh.vertices_V3 for mesh in meshes]), np.concatenate(faces),
                   np.concatenate([mesh.material_F for mesh in meshes]))

    def transform(self, dst_T_src: np.ndarray) -> Mesh:
        """The mesh in frame `dst`; `dst_T_src` is (4, 4) with a positive determinant."""
        matrix = np.asarray(dst_T_src, np.float64)
        vertices = self.vertices_V3 @ matrix[:3, :3].T + matrix[:3, 3]
        return Mesh(vertices, self.faces_F3, self.material_F)

    @property
    def triangles_F33(self) -> np.ndarray:
        """(F, 3, 3) float32 corner positions."""
        return self.vertices_V3[self.faces_F3]

    @property
    def _cross_F3(self) -> np.ndarray:
        corners = self.triangles_F33.astype(np.float64)
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    @property
    def normals_F3(self) -> np.ndarray:
        """(F, 3) unit normals that point outwards."""
        cross = self._cross_F3
        return cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12)

    @property
    def areas_m2(self) -> np.ndarray:
        """(F,) face areas."""
        return 0.5 * np.linalg.norm(self._cross_F3, axis=1)

    @property
    def area_m2(self) -> float:
        """The area of all faces together."""
        return float(self.areas_m2.sum())

    @property
    def bounds_m(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of the axis-aligned box around the vertices."""
        return self.vertices_V3.min(axis=0), self.vertices_V3.max(axis=0)


def pose_matrix(xyz_m: Sequence[float] | np.ndarray, yaw_rad: float | np.ndarray,
                slope_xy: Sequence[float] | np.ndarray = (0.0, 0.0)) -> np.ndarray:
    """`global_T_object` (..., 4, 4) float64 of objects that head towards a yaw on sloping ground.

    Args:
        xyz_m: (..., 3) place of the origin.
        yaw_rad: (...) direction in the x, y plane of the forward axis.
        slope_xy: (..., 2) rise of the ground by metre along global x and y; the up axis is its normal.
    """
    yaw, (x, y) = np.asarray(yaw_rad, np.float64), np.moveaxis(np.asarray(slope_xy, np.float64), -1, 0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    pose = np.zeros((*yaw.shape, 4, 4))
    pose[..., 0, 0], pose[..., 0, 1], pose[..., 1, 0], pose[..., 1, 1] = cos, -sin, sin, cos
    pose[..., 2, 2] = pose[..., 3, 3] = 1
    pose[..., :3, 3] = xyz_m

    # axes lean where the ground does
    sloped = (x != 0) | (y != 0)
    if sloped.any():
        forward = np.stack(np.broadcast_arrays(cos, sin, x * cos + y * sin), axis=-1)
        up = np.stack(np.broadcast_arrays(-x, -y, np.ones_like(yaw)), axis=-1)
        forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
        up /= np.linalg.norm(up, axis=-1, keepdims=True)
        axes = np.stack([forward, np.cross(up, forward), up], axis=-1)
        pose[..., :3, :3] = np.where(sloped[..., None, None], axes, pose[..., :3, :3])
    return pose
