"""Picture of what a camera's lift reads of the road: one panel for exact and one for blurred depth."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

OUT_OF_VIEW, MISSED, READ = (32, 32, 32), (214, 69, 65), (72, 160, 96)
"""Colours (RGB) of cells that are not in view, that read other places' road or none, that read their own."""


def coverage_picture(
    in_view_YX: np.ndarray, read_YX: Mapping[str, np.ndarray], pixels_per_cell: int = 4
) -> np.ndarray:
    """Panels side by side, forward up, titles above: uint8 RGB `(rows, columns, 3)`."""
    import cv2

    panels = []
    for title, read in read_YX.items():
        panel = np.empty((*in_view_YX.shape, 3), np.uint8)
        panel[:] = OUT_OF_VIEW
        panel[in_view_YX], panel[read] = MISSED, READ

        # rows grow to the left, columns forward
        upright = np.ascontiguousarray(panel[::-1, ::-1].transpose(1, 0, 2))
        upright = upright.repeat(pixels_per_cell, 0).repeat(pixels_per_cell, 1)
        cv2.putText(upright, title, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1, cv2.LINE_AA)
        panels += [upright, np.full((len(upright), pixels_per_cell, 3), 255, np.uint8)]
    return np.concatenate(panels[:-1], 1)
