"""The images of a frame while objects come into it: who stands before whom, and which pictures fit."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.contracts import CENTRE, CameraRig
from .database import PasteDatabase
from .pictures import (
    MOST_COVERED,
    SMALLEST_PX,
    Drawn,
    Outline,
    covered_part,
    draw_pictures,
    fits,
    look_of,
    outline_of,
    outlines_of,
    touches_border,
)

ALIKE_PX = 2 * SMALLEST_PX
"""Area from which a camera must have a picture of an object: twice that from which one is kept, since the
cameras of two cars differ."""


class PastedImages:
    """The cameras of a frame, and what stands in their images.

    Args:
        rig: of the frame.
        boxes_M9: of what is there.
    """

    def __init__(self, rig: CameraRig, boxes_M9: np.ndarray) -> None:
        self.rig = rig
        self._looks = {int(i): look_of(rig, int(i)) for i in np.flatnonzero(rig.present_N)}
        self._there: dict[int, list[Drawn]] = {}
        for camera, look in self._looks.items():
            outlines = outlines_of(look, boxes_M9.astype(np.float64))
            self._there[camera] = [Drawn(outline) for outline in outlines if outline is not None]

    def paste(self, database: PasteDatabase, number: int, box_9: np.ndarray, lift_3: np.ndarray) -> bool:
        """Take an object's pictures, if every camera that sees its place has one that fits.

        Args:
            database: where they are.
            number: of the object.
            box_9: where it would stand.
            lift_3: what was added to its position.
        """
        views = database.views(number)
        taken: dict[int, Drawn] = {}
        for camera, look in self._looks.items():
            outline = outline_of(look, box_9)
            if outline is None:
                if touches_border(look, box_9):
                    return False
                continue

            name = self.rig.names[camera]
            if name not in views:
                if outline.area_px >= ALIKE_PX:
                    return False
                continue
            if self._is_covered(camera, outline):
                return False

            view, patch = database.view(number, views[name])
            if not fits(view, box_9[CENTRE] - lift_3, look, box_9[CENTRE]):
                return False
            taken[camera] = Drawn(outline, view, patch, lift_3, box_9[CENTRE])

        for camera, drawn in taken.items():
            self._there[camera].append(drawn)
        return True

    def _is_covered(self, camera: int, outline: Outline) -> bool:
        """Whether an object would hide too much of one behind it, or be hidden by one before it."""
        for other in self._there[camera]:
            near, far = sorted((outline, other.outline), key=lambda one: one.depth_m)
            if covered_part(far.rectangle_4, near.rectangle_4) > MOST_COVERED:
                return True
        return False

    def drawn(self) -> CameraRig:
        """The rig with all objects in its images."""
        images = self.rig.images_NHW3.copy()
        for camera, look in self._looks.items():
            height, width = look.size_hw
            things = self._there[camera]
            if any(thing.view is not None for thing in things):
                images[camera, :height, :width] = draw_pictures(images[camera, :height, :width], look, things)
        return replace(self.rig, images_NHW3=images)
