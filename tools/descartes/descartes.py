"""Draws shapely 2 polygons with matplotlib: the two functions that the nuScenes devkit draws maps with.

The devkit imports `descartes`, whose last release (1.1.0, 2017) cannot read the polygons of shapely 2, which
the devkit asks for, too: `NuScenesMap.render_*` ends in an IndexError. This distribution stands in for it.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from shapely.geometry import shape
from shapely.geometry.polygon import orient

__all__ = ['PolygonPatch', 'PolygonPath']


def PolygonPath(polygon: Any) -> Path:  # noqa: N802 (the name is descartes')
    """The outlines of a polygon or multi-polygon as one path, in which holes stay open.

    Args:
        polygon: of shapely, or anything that speaks GeoJSON (`__geo_interface__`, a dictionary).

    Raises:
        ValueError: another kind of geometry.
    """
    geometry = polygon if isinstance(polygon, shapely.Geometry) else shape(polygon)
    if geometry.geom_type not in ('Polygon', 'MultiPolygon'):
        raise ValueError(f'PolygonPath: expected a Polygon or MultiPolygon, found {geometry.geom_type}')

    # holes turn the other way than outlines, so that every rule of filling leaves them open
    parts = [orient(part) for part in shapely.get_parts(geometry) if not part.is_empty]
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    if not rings:
        return Path(np.zeros((0, 2)))
    points = [shapely.get_coordinates(ring) for ring in rings]
    codes = [[Path.MOVETO, *[Path.LINETO] * (len(ring) - 2), Path.CLOSEPOLY] for ring in points]
    return Path(np.concatenate(points), np.concatenate(codes))


def PolygonPatch(polygon: Any, **style: Any) -> PathPatch:  # noqa: N802
    """A matplotlib patch of a polygon or multi-polygon; `style` is that of `PathPatch` (fc, alpha ...)."""
    return PathPatch(PolygonPath(polygon), **style)
