"""Point labels in the nuScenes-lidarseg format: one uint8 class index per point of a key frame's scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.protocols import LIDARSEG_CATEGORIES
from ..scene.materials import MATERIALS

LIDARSEG_INDEX = {name: index for index, name in enumerate(LIDARSEG_CATEGORIES)}
MATERIAL_LIDARSEG = np.array([material.lidarseg for material in MATERIALS], np.uint8)


def point_labels(material_P: np.ndarray, track_id_P: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Class index of every point: its object's category, or its surface's class where it hit no object.

    Args:
        material_P: (P,) uint8 material ids.
        track_id_P: (P,) track indices, -1 for static surfaces.
        categories: nuScenes category of each track.

    Returns:
        (P,) uint8.

    Raises:
        ValueError: for a track id without a category.
    """
    if len(track_id_P) and track_id_P.max() >= len(categories):
        raise ValueError(
            f'track_id_P: found {int(track_id_P.max())}, expected less than {len(categories)} tracks'
        )
    of_track = np.array([LIDARSEG_INDEX[category] for category in categories] + [0], np.uint8)
    return np.where(track_id_P >= 0, of_track[track_id_P], MATERIAL_LIDARSEG[material_P]).astype(np.uint8)
