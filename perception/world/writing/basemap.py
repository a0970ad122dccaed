"""The basemap picture of a city, as `nuscenes.utils.map_mask.MapMask` reads it."""
from __future__ import annotations

import cv2
import numpy as np

from ..city.records import City
from ..scene.materials import LIDARSEG_DRIVEABLE, LIDARSEG_SIDEWALK, MATERIALS


def city_basemap(city: City) -> np.ndarray:
    """(H, W) uint8, 255 on streets and walkways, 0 elsewhere; 0.1 m a pixel.

    Pixel column = x / 0.1 and row = H - 1 - y / 0.1, the published orientation (north up).
    """
    paved = [material.lidarseg in (LIDARSEG_DRIVEABLE, LIDARSEG_SIDEWALK) for material in MATERIALS]
    grey = np.zeros(256, np.uint8)
    grey[np.flatnonzero(paved)] = 255
    return cv2.LUT(city.ground.material_YX, grey)[::-1].copy()
