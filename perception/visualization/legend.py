"""Legends: what the colours of one panel mean."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import palette

_MARGIN_PX = 8
_LINE_PX = 19
_GAP_PX = 14
_FONT_SCALE = 0.42


@dataclass(frozen=True)
class LegendEntry:
    """A name and its colour, marked as the panel draws it.

    Attributes:
        name: of a class; underscores become spaces.
        colour: RGB.
        mark: 'fill', 'outline' or 'line'.
    """

    name: str
    colour: tuple[int, int, int]
    mark: str = 'fill'


def entries_of(colours: dict[str, tuple[int, int, int]], mark: str = 'fill') -> tuple[LegendEntry, ...]:
    """One entry for each colour of a palette."""
    return tuple(LegendEntry(name, colour, mark) for name, colour in colours.items())


def draw_legend(sections: Sequence[tuple[str, Sequence[LegendEntry]]], width_px: int) -> np.ndarray:
    """Entries in rows, every section on a new row behind its name, uint8 RGB `(H, width_px, 3)`.

    Args:
        sections: (name, entries) pairs; a section without a name starts at the margin.
        width_px: of the strip; its height follows from the entries.
    """
    indent_px = max((_text_width(f'{name}:') + _GAP_PX for name, _ in sections if name), default=0)
    placed, row = [], 0
    for name, entries in sections:
        column = _MARGIN_PX + indent_px
        placed.append((name, None, _MARGIN_PX, row))
        for entry in entries:
            needed_px = 18 + _text_width(entry.name) + _GAP_PX
            if column + needed_px > width_px and column > _MARGIN_PX + indent_px:
                column, row = _MARGIN_PX + indent_px, row + 1
            placed.append((entry.name, entry, column, row))
            column += needed_px
        row += 1

    strip = np.full((row * _LINE_PX + _MARGIN_PX, width_px, 3), 255, dtype=np.uint8)
    for name, entry, column, row in placed:
        baseline = row * _LINE_PX + 16
        if entry is None:
            _write(strip, f'{name}:' if name else '', column, baseline)
        else:
            _draw_mark(strip, entry, column, baseline)
            _write(strip, name.replace('_', ' '), column + 18, baseline)
    return strip


def _draw_mark(strip: np.ndarray, entry: LegendEntry, column: int, baseline: int) -> None:
    import cv2

    top_left, bottom_right = (column, baseline - 10), (column + 12, baseline + 1)
    if entry.mark == 'line':
        middle = baseline - 4
        cv2.line(strip, (column, middle), (column + 12, middle), entry.colour, 3)
        cv2.circle(strip, (column + 2, middle), 3, entry.colour, -1)
    elif entry.mark == 'outline':
        cv2.rectangle(strip, top_left, bottom_right, entry.colour, 3)
    else:
        cv2.rectangle(strip, top_left, bottom_right, entry.colour, -1)


def _write(strip: np.ndarray, text: str, column: int, baseline: int) -> None:
    import cv2

    cv2.putText(
        strip, text, (column, baseline), cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, palette.INK, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    import cv2

    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, 1)[0][0]
