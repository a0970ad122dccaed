"""What a layer can show in the viewer: five kinds of shapes, which know nothing of tasks."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...core.grid import BEVGrid
from .packing import pack, rounded

Colour = tuple[int, int, int]
Palette = Mapping[str, Colour]
"""{class: RGB 0..255}, in the order of the labels."""
_LONGEST_STEP_M = 2.0


class Shapes(ABC):
    """Shapes of one kind in one frame, in ego metres.

    Attributes:
        kind: which part of the page draws them (`static/shapes.js`).
        palette: classes that can be switched on and off.
    """

    kind: ClassVar[str]
    palette: Palette

    @abstractmethod
    def to_page(self) -> dict[str, Any]:
        """Plain values for the page."""


@dataclass(frozen=True)
class BoxShapes(Shapes):
    """Boxes with heading and velocity.

    Attributes:
        boxes_M9: columns as in `core.contracts`; a velocity that is not finite is unknown.
        labels_M: into the palette.
        palette: colours of the classes.
        scores_M: 0..1; None of labels, which every threshold lets through.
    """

    kind = 'boxes'

    boxes_M9: np.ndarray
    labels_M: np.ndarray
    palette: Palette
    scores_M: np.ndarray | None = None

    def to_page(self) -> dict[str, Any]:
        """One row of nine numbers a box."""
        return {
            'items': rounded(self.boxes_M9, 3), 'labels': np.asarray(self.labels_M).tolist(),
            'scores': None if self.scores_M is None else rounded(self.scores_M, 3)}


@dataclass(frozen=True)
class LineShapes(Shapes):
    """Lines on the ground.

    Attributes:
        lines: L arrays `(P, 2)`.
        labels_L: into the palette.
        palette: colours of the classes.
        scores_L: as of boxes.
    """

    kind = 'lines'

    lines: tuple[np.ndarray, ...]
    labels_L: np.ndarray
    palette: Palette
    scores_L: np.ndarray | None = None

    def to_page(self) -> dict[str, Any]:
        """Points of each line, steps cut to two metres so that lines can be compared point by point."""
        return {
            'items': [rounded(_with_short_steps(line)) for line in self.lines],
            'labels': np.asarray(self.labels_L, dtype=int).tolist(),
            'scores': None if self.scores_L is None else rounded(self.scores_L, 3)}


@dataclass(frozen=True)
class CellShapes(Shapes):
    """Cells of the ground, each of any number of classes.

    Attributes:
        masks_CYX: bool, at most 16 classes, later ones on top.
        grid: where they lie.
        palette: colours of the classes.
    """

    kind = 'cells'

    masks_CYX: np.ndarray
    grid: BEVGrid
    palette: Palette

    def __post_init__(self) -> None:
        if len(self.masks_CYX) > 16:
            raise ValueError(
                f'CellShapes.masks_CYX: expected at most 16 classes, found {len(self.masks_CYX)}')

    def to_page(self) -> dict[str, Any]:
        """A bit for each class of each cell."""
        bits = np.zeros(self.masks_CYX.shape[1:], dtype=np.uint16)
        for c, mask in enumerate(self.masks_CYX):
            bits |= (np.asarray(mask) > 0).astype(np.uint16) << c
        return {
            'shape': list(bits.shape), 'x': list(self.grid.x_range_m), 'y': list(self.grid.y_range_m),
            'packed': pack(bits)}


@dataclass(frozen=True)
class VoxelShapes(Shapes):
    """Voxels.

    Attributes:
        labels_XYZ: uint8 into the palette; 255 where nothing is drawn.
        low_m: the corner of the first voxel.
        voxel_m: length of an edge.
        palette: colours of the classes.
    """

    kind = 'voxels'

    labels_XYZ: np.ndarray
    low_m: tuple[float, float, float]
    voxel_m: float
    palette: Palette

    def to_page(self) -> dict[str, Any]:
        """The whole grid: deflated, the empty part of it takes next to nothing."""
        return {
            'shape': list(self.labels_XYZ.shape), 'low': list(self.low_m), 'voxel': self.voxel_m,
            'packed': pack(self.labels_XYZ.astype(np.uint8))}


@dataclass(frozen=True)
class TrailShapes(Shapes):
    """Where numbered objects were and will be.

    Attributes:
        numbers: of each object.
        places_M3: where its number is written.
        past: M arrays `(P, 2)`.
        ahead: M arrays `(F, 2)`.
        colours: of each object.
        scores_M: as of boxes.
        palette: none, trails are switched on and off together.
    """

    kind = 'trails'

    numbers: tuple[int, ...]
    places_M3: np.ndarray
    past: tuple[np.ndarray, ...]
    ahead: tuple[np.ndarray, ...]
    colours: tuple[Colour, ...]
    scores_M: np.ndarray
    palette: Palette = field(default_factory=dict)

    def to_page(self) -> dict[str, Any]:
        """One entry an object."""
        return {
            'items': [
                {'id': number, 'place': rounded(place), 'past': rounded(past), 'ahead': rounded(ahead),
                 'colour': list(colour)}
                for number, place, past, ahead, colour in zip(
                    self.numbers, self.places_M3, self.past, self.ahead, self.colours, strict=True)],
            'scores': rounded(self.scores_M, 3)}


def _with_short_steps(line_P2: np.ndarray) -> np.ndarray:
    """The same line with points at most two metres apart."""
    line = np.asarray(line_P2, dtype=np.float64)[:, :2]
    pieces = [line[:1]]
    for a, b in zip(line[:-1], line[1:], strict=True):
        count = max(1, int(np.ceil(np.hypot(*(b - a)) / _LONGEST_STEP_M)))
        pieces.append(a + (b - a) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(pieces)
