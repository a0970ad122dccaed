"""Does the camera's lift read the road where it lies? Flat road, known depth, no learned weights.

Every pixel that shows road has its own row and column as its context; the encoder's own tables and gathering
read them. A ground cell counts when one of its voxels reads a place in the image, the mean by the weights of
the pixels it takes, whose road is at most one cell away along both axes. Interpolated features stand for the
place they are interpolated at; how much road one row of features covers is another question (at stride 8 and
600 pixels of focal length 3.5 m at a distance of 20).
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.geometry import invert, transform_points
from ..core.lens import Distortion, lens_rows
from ..core.lens.projection import lens_project, lens_unproject
from .camera import CameraEncoder
from .lift import lift_tables

RANGES_M = ((5, 10), (10, 20), (20, 30), (30, 40))
"""Distances along the camera's axis; from a fisheye."""
BLURS_M = {'exact': 0.0, 'blurred': 1.0}
"""Standard deviation of depth, and of height where the encoder estimates it."""
LEAST_WEIGHT = 0.01

Camera = tuple[Tensor, Tensor, Distortion | None]


@dataclass(frozen=True)
class LiftCoverage:
    """What one camera's lift reads of the road.

    Attributes:
        shares: of the cells in view, {'exact': {'5-10': share, ...}, 'blurred': {...}}.
        in_view_YX: bool, cells whose road the camera sees within the ranges.
        read_YX: {'exact': bool, 'blurred': bool}, those that read the road of their own place.
    """

    shares: dict[str, dict[str, float]]
    in_view_YX: Tensor
    read_YX: dict[str, Tensor]


@torch.no_grad()
def lift_coverage(
    encoder: CameraEncoder,
    K_33: Tensor,
    ego_T_cam_44: Tensor,
    image_hw: tuple[int, int],
    slope: float = 0.0,
    distortion: Distortion | None = None,
) -> LiftCoverage:
    """Measure one camera.

    Args:
        encoder: whose lift is measured; its weights do not matter.
        K_33: of the image as the encoder gets it.
        ego_T_cam_44: where the camera is.
        image_hw: pixels of that image.
        slope: the road is z = slope * x (ego).
        distortion: the lens; None: a pinhole.
    """
    camera: Camera = (K_33.double(), ego_T_cam_44.double(), distortion)
    tables = lift_tables(
        *(part[None, None] for part in camera[:2]), torch.ones(1, 1, dtype=torch.bool),
        encoder.lift_geometry(image_hw), torch.from_numpy(lens_rows([distortion], 1))[None])

    # row, column and one for every pixel that shows road: (1, 1, 3, h, w)
    pixels = _pixel_centres(image_hw, encoder.feature_hw(image_hw))
    place_hw3, depth_hw = _road(pixels, camera, slope)
    shown = depth_hw.isfinite()[..., None]
    context = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1).where(shown, 0.0)

    centres = torch.as_tensor(encoder.grid.centres_m()).double()  # (Y, X, 2)
    distance, in_view = _view(centres, camera, image_hw, slope)

    shares, read = {}, {}
    for kind, sigma_m in BLURS_M.items():
        logits = _logits(encoder, depth_hw, place_hw3[..., 2], sigma_m)
        sums = encoder.read(_as_map(context), logits, tables)[0].double()  # (3, Z, Y, X)
        found = (sums[:2] / sums[2].clamp(min=1e-9)).permute(1, 2, 3, 0)
        place, _ = _road(found, camera, slope)

        near = ((place[..., :2] - centres).abs() <= encoder.grid.cell_m).all(-1) & (sums[2] > LEAST_WEIGHT)
        read[kind] = near.any(0) & in_view
        shares[kind] = {
            f'{low}-{high}': _share(read[kind], in_view & (distance >= low) & (distance < high))
            for low, high in RANGES_M}
    return LiftCoverage(shares, in_view, read)


def mean_shares(parts: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean of several cameras' shares."""
    return {
        kind: {name: sum(part[kind][name] for part in parts) / len(parts) for name in parts[0][kind]}
        for kind in parts[0]}


def _pixel_centres(image_hw: tuple[int, int], feature_hw: tuple[int, int]) -> Tensor:
    """Middle of each feature cell in pixels of the image, `(h, w, 2)`: (u, v)."""
    (height, width), (h, w) = image_hw, feature_hw
    v, u = torch.meshgrid(
        (torch.arange(h, dtype=torch.float64) + 0.5) * (height / h) - 0.5,
        (torch.arange(w, dtype=torch.float64) + 0.5) * (width / w) - 0.5, indexing='ij')
    return torch.stack([u, v], -1)


def _road(pixels: Tensor, camera: Camera, slope: float) -> tuple[Tensor, Tensor]:
    """Road that pixels `(*, 2)` show: ego place `(*, 3)` and depth `(*)`, infinite where they show none."""
    K_33, ego_T_cam_44, distortion = camera
    rays = lens_unproject(K_33, pixels, torch.ones_like(pixels[..., 0]), distortion) @ ego_T_cam_44[:3, :3].T
    origin = ego_T_cam_44[:3, 3]

    # origin + depth * ray lies on z = slope * x
    falls = slope * rays[..., 0] - rays[..., 2]
    depth = ((origin[2] - slope * origin[0]) / falls.clamp(min=1e-9)).where(falls > 1e-9, torch.inf)
    return (origin + depth[..., None] * rays).where(depth.isfinite()[..., None], torch.inf), depth


def _view(
    centres: Tensor, camera: Camera, image_hw: tuple[int, int], slope: float
) -> tuple[Tensor, Tensor]:
    """Depth of each cell's road, and whether it is in view within the ranges."""
    K_33, ego_T_cam_44, distortion = camera
    ground = torch.cat([centres, slope * centres[..., :1]], -1)
    pixels, distance = lens_project(K_33, transform_points(invert(ego_T_cam_44), ground), distortion)

    u, v = (pixels + 0.5).unbind(-1)
    seen = (u >= 0) & (u < image_hw[1]) & (v >= 0) & (v < image_hw[0])
    return distance, seen & (distance >= RANGES_M[0][0]) & (distance < RANGES_M[-1][1])


def _logits(encoder: CameraEncoder, depth_hw: Tensor, height_hw: Tensor, sigma_m: float) -> list[Tensor]:
    """Logits for `CameraEncoder.read` of a depth network that knows the road to `sigma_m`."""
    bins = encoder.depth_bins
    edges = bins.depth_m(torch.arange(bins.count + 1, dtype=torch.float64))
    parts = [_spread(depth_hw, edges, sigma_m)]
    if encoder.lift_options.heights:
        inside = _spread(height_hw, torch.from_numpy(encoder.grid.z_edges_m), sigma_m)
        parts.append(torch.cat([inside, 1 - inside.sum(-1, keepdim=True)], -1))
    return [_as_map(part.clamp(min=1e-20).log()) for part in parts]


def _spread(value_hw: Tensor, edges: Tensor, sigma: float) -> Tensor:
    """Share of a normal distribution about each value in each interval, `(h, w, D)`."""
    return torch.special.ndtr((edges - value_hw[..., None]) / max(sigma, 1e-6)).diff(dim=-1)


def _as_map(values_hwC: Tensor) -> Tensor:
    """`(h, w, C)` -> `(1, 1, C, h, w)` float32."""
    return values_hwC.float().permute(2, 0, 1)[None, None]


def _share(read: Tensor, of: Tensor) -> float:
    """NaN where the camera sees no cell of a range."""
    return float(read[of].double().mean())
