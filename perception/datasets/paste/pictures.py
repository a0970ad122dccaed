"""Pictures of objects: cut out of one frame's images and drawn into another's, the far ones first.

A patch is the rectangle around an object's box; what is drawn of it is what lies inside the outline of the
box, for there are no masks. Where the two cameras differ (another car's calibration, the car's own motion
between image and LiDAR, another height of the ground) the patch is looked at as a plane through the box's
centre that faces the camera, and sampled where each pixel of the new image sees that plane: through the lens
of either camera, whatever its K.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.contracts import CENTRE, CameraRig
from ...core.geometry import box_corners, invert, transform_points
from ...core.lens.projection import lens_project, lens_unproject
from ..reading.io import reduced_K
from ..transforms.view import Look
from .objects import StoredView

NEAREST_M = 0.3
"""A box with a corner nearer to the camera's plane has no outline."""
SMALLEST_PX = 36.0
"""Area of an outline, in pixels of an image 400 wide, below which a camera need not show an object."""
_REFERENCE_WIDTH_PX = 400
MOST_PX = 512
"""Longer side of a stored patch."""
_QUALITY = 92
_BORDER_PX = 2
MOST_TURN_RAD = math.radians(6.0)
MOST_ZOOM = 1.25
"""Largest change of the direction in which a camera sees an object, and of its distance, for which the plane
stands for it."""
MOST_COVERED = 0.7
"""Of a picture's rectangle that another may cover (Moca's limit of intersection over foreground; Zhang et al.
2020, arXiv 2012.12741)."""


@dataclass(frozen=True)
class Outline:
    """A box in an image.

    Attributes:
        polygon_K2: its convex outline, pixels.
        area_px: of the part inside the image, in pixels of an image `_REFERENCE_WIDTH_PX` wide.
        rectangle_4: left, top, right, bottom of that part.
        depth_m: distance of the camera from the box's centre.
    """

    polygon_K2: np.ndarray
    area_px: float
    rectangle_4: np.ndarray
    depth_m: float


def look_of(rig: CameraRig, index: int) -> Look:
    """One camera of a rig."""
    return Look(rig.K_N33[index], rig.ego_T_cam_N44[index], rig.size_of(index), rig.distortion_of(index))


def outlines_of(look: Look, boxes_M9: np.ndarray) -> list[Outline | None]:
    """Where a camera sees boxes; None where it does not, or where a box reaches behind the camera."""
    outlines: list[Outline | None] = [None] * len(boxes_M9)
    corners = transform_points(invert(look.ego_T_cam), box_corners(boxes_M9.astype(np.float64)))
    ahead = np.flatnonzero(corners[..., 2].min(1) >= NEAREST_M)
    pixels, depth_m = lens_project(look.K_33, corners[ahead].reshape(-1, 3), look.distortion)
    pixels, depth_m = pixels.reshape(-1, 8, 2), depth_m.reshape(-1, 8)

    with np.errstate(invalid='ignore'):
        usable = (depth_m > 0).all(1) & (np.abs(pixels) <= 1e5).all((1, 2))
        height, width = look.size_hw
        usable &= (pixels.max(1) > 0).all(1) & (pixels.min(1) < [width - 1, height - 1]).all(1)
    for place in np.flatnonzero(usable):
        outlines[ahead[place]] = _outline(look, pixels[place], boxes_M9[ahead[place]])
    return outlines


def outline_of(look: Look, box_9: np.ndarray) -> Outline | None:
    """As `outlines_of`, of one box."""
    return outlines_of(look, box_9[None])[0]


def _outline(look: Look, pixels_82: np.ndarray, box_9: np.ndarray) -> Outline | None:
    import cv2

    polygon = cv2.convexHull(pixels_82.astype(np.float32))[:, 0].astype(np.float64)
    height, width = look.size_hw
    border = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    area, inside = cv2.intersectConvexConvex(polygon.astype(np.float32), border)
    if inside is None or area <= 0:
        return None
    inside = inside.reshape(-1, 2)

    scale = (_REFERENCE_WIDTH_PX / width) ** 2
    rectangle = np.concatenate([inside.min(0), inside.max(0)]).astype(np.float64)
    depth = float(np.linalg.norm(box_9[CENTRE] - look.ego_T_cam[:3, 3]))
    return Outline(polygon, float(area) * scale, rectangle, depth)


def touches_border(look: Look, box_9: np.ndarray) -> bool:
    """Whether a box without an outline reaches into the image all the same: some corner of it does."""
    corners = transform_points(invert(look.ego_T_cam), box_corners(box_9[None].astype(np.float64))[0])
    pixels, depth_m = lens_project(look.K_33, corners, look.distortion)
    height, width = look.size_hw
    with np.errstate(invalid='ignore'):
        inside = (depth_m > 0) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    return bool(inside.any())


def covered_part(rectangle_4: np.ndarray, by_4: np.ndarray) -> float:
    """Fraction of a rectangle that lies under another one."""
    low, high = np.maximum(rectangle_4[:2], by_4[:2]), np.minimum(rectangle_4[2:], by_4[2:])
    area = np.prod(rectangle_4[2:] - rectangle_4[:2])
    return float(np.prod(np.clip(high - low, 0, None)) / area) if area > 0 else 0.0


def _filled(polygons: Sequence[np.ndarray], offset_2: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The insides of polygons, as 255 in uint8 `(H, W)`; `offset_2` is the pixel of the upper left corner."""
    import cv2

    mask = np.zeros(size_hw, np.uint8)
    for polygon in polygons:
        cv2.fillConvexPoly(mask, np.rint(polygon - offset_2).astype(np.int32), 255)
    return mask


# -------------------------------------------------------------------- cutting out

def cut_view(
    camera: str, image_HW3: np.ndarray, look: Look, outline: Outline, nearer: Sequence[Outline]
) -> StoredView:
    """The patch of an object in one image.

    Args:
        camera: its channel.
        image_HW3: uint8.
        look: the camera.
        outline: the object.
        nearer: objects that stand before it.
    """
    import cv2

    height, width = look.size_hw
    left, top = np.maximum(np.floor(outline.rectangle_4[:2]).astype(int) - _BORDER_PX, 0)
    right, bottom = np.minimum(
        np.ceil(outline.rectangle_4[2:]).astype(int) + _BORDER_PX + 1, [width, height])
    patch = image_HW3[top:bottom, left:right]
    K_33 = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]]) @ look.K_33

    own = _filled([outline.polygon_K2], np.array([left, top]), patch.shape[:2]) > 0
    others = _filled([other.polygon_K2 for other in nearer], np.array([left, top]), patch.shape[:2]) > 0
    visible = 1.0 - float((own & others).sum()) / max(1, int(own.sum()))

    factor = min(1.0, MOST_PX / max(patch.shape[:2]))
    if factor < 1:
        size_wh = tuple(max(1, round(side * factor)) for side in patch.shape[1::-1])
        shrink = np.array(size_wh) / patch.shape[1::-1]
        patch = cv2.resize(patch, size_wh, interpolation=cv2.INTER_AREA)
        K_33 = np.array([
            [shrink[0], 0, (shrink[0] - 1) / 2], [0, shrink[1], (shrink[1] - 1) / 2], [0, 0, 1]]) @ K_33

    coded = cv2.imencode('.jpg', patch[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return StoredView(
        camera=camera, K_33=K_33, ego_T_cam=look.ego_T_cam, size_hw=patch.shape[:2], visible=visible,
        depth_m=outline.depth_m, distortion=look.distortion, jpeg=coded.tobytes())


# -------------------------------------------------------------------- drawing in

def fits(view: StoredView, stored_3: np.ndarray, look: Look, centre_3: np.ndarray) -> bool:
    """Whether a camera sees an object so nearly as its picture was taken that the picture can stand for it.

    Args:
        view: the picture.
        stored_3: centre of the object when it was taken.
        look: the camera now.
        centre_3: centre of the object now.
    """
    was, now = stored_3 - view.ego_T_cam[:3, 3], centre_3 - look.ego_T_cam[:3, 3]
    distances = np.linalg.norm(was), np.linalg.norm(now)
    turn = math.acos(float(np.clip(was @ now / (distances[0] * distances[1]), -1, 1)))
    return turn <= MOST_TURN_RAD and max(distances) <= MOST_ZOOM * min(distances)


@dataclass(frozen=True)
class Drawn:
    """Something that stands before or behind others in one image.

    Attributes:
        outline: where.
        view: its picture; None for what is there already.
        patch_HW3: of the picture, decoded.
        lift_3: what was added to its position since the picture was taken.
        centre_3: of its box, now.
    """

    outline: Outline
    view: StoredView | None = None
    patch_HW3: np.ndarray | None = None
    lift_3: np.ndarray | None = None
    centre_3: np.ndarray | None = None


def draw_pictures(image_HW3: np.ndarray, look: Look, things: Sequence[Drawn]) -> np.ndarray:
    """A new image with the pictures in it, the far ones first.

    What was there already comes again over what is drawn behind it, inside the outline of its box.

    Args:
        image_HW3: uint8, not changed.
        look: its camera.
        things: in any order.
    """
    drawn = image_HW3.copy()
    changed = np.zeros(image_HW3.shape[:2], bool)
    for thing in sorted(things, key=lambda one: -one.outline.depth_m):
        left, top, right, bottom = _window(thing.outline, look.size_hw)
        part = np.s_[top:bottom, left:right]
        if thing.view is None:
            if changed[part].any():
                mask = _filled([thing.outline.polygon_K2], np.array([left, top]), changed[part].shape)
                drawn[part][mask > 0] = image_HW3[part][mask > 0]
            continue

        colours, alpha = _sampled(thing, look, (left, top, right, bottom))
        mixed = drawn[part] + alpha[..., None] * (colours.astype(np.float32) - drawn[part])
        drawn[part] = np.rint(mixed).astype(np.uint8)
        changed[part] |= alpha > 0
    return drawn


def _window(outline: Outline, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Columns and rows around an outline: left, top, right, bottom, the last two excluded."""
    left, top = np.maximum(np.floor(outline.rectangle_4[:2]).astype(int) - 1, 0).tolist()
    right, bottom = (np.ceil(outline.rectangle_4[2:]).astype(int) + 2).tolist()
    return left, top, min(right, size_hw[1]), min(bottom, size_hw[0])


def _sampled(
    thing: Drawn, look: Look, window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Colours of a window from a picture, uint8 `(H, W, 3)`, and how opaque they are, 0..1 `(H, W)`."""
    import cv2

    left, top, right, bottom = window
    view, patch, K_33 = thing.view, thing.patch_HW3, thing.view.K_33
    shrink = int(min(patch.shape[0] / (bottom - top), patch.shape[1] / (right - left)))
    if shrink > 1:
        size = patch.shape[0] // shrink, patch.shape[1] // shrink
        patch = cv2.resize(
            patch[:size[0] * shrink, :size[1] * shrink], size[::-1], interpolation=cv2.INTER_AREA)
        K_33 = reduced_K(K_33, shrink)

    # pixels of the window to points of the plane, and those into the picture
    pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), -1).astype(np.float64)
    rays = lens_unproject(look.K_33, pixels.reshape(-1, 2), np.ones(pixels.shape[0] * pixels.shape[1]),
                          look.distortion) @ look.ego_T_cam[:3, :3].T
    origin = look.ego_T_cam[:3, 3]
    facing = thing.centre_3 - origin
    with np.errstate(divide='ignore', invalid='ignore'):
        points = origin + rays * (facing @ facing / (rays @ facing))[:, None] - thing.lift_3
    seen, depth_m = lens_project(
        K_33, transform_points(invert(view.ego_T_cam), points), view.distortion)

    seen = np.where(np.isfinite(seen) & (depth_m > 0)[:, None], seen, -1e4).reshape(pixels.shape)
    maps = seen.astype(np.float32)
    colours = cv2.remap(patch, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((seen > -0.5) & (seen < np.array(patch.shape[1::-1]) - 0.5)).all(-1)
    mask = _filled([thing.outline.polygon_K2], np.array([left, top]), inside.shape)
    return colours, cv2.blur(mask, (3, 3)).astype(np.float32) / 255 * inside
