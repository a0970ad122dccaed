"""An invented city: its street network, its map layers, its ground and everything that stands on it.

`make_city` is deterministic in (location, seed) and cached per process.
"""
from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from ..scene.relief import draw_relief
from .ground import paint_ground
from .layers import draw_map
from .records import City
from .roads import draw_network
from .static import build_static
from .styles import CITY_STYLES

LOCATIONS = tuple(CITY_STYLES)
_CITY_STREAM = 0xC17


@lru_cache(maxsize=4)
def make_city(location: str, seed: int = 0) -> City:
    """The city that takes the place of `location`.

    Args:
        location: one of `LOCATIONS`.
        seed: the world's seed.

    Raises:
        ValueError: the location is unknown or the seed negative.
    """
    if location not in CITY_STYLES:
        raise ValueError(f'make_city: location must be one of {LOCATIONS}, found {location!r}')
    if seed < 0:
        raise ValueError(f'make_city: seed must not be negative, found {seed}')
    # one stream for each part, so that a change of one leaves the others as they are
    style = CITY_STYLES[location]
    streams = np.random.SeedSequence([seed, _CITY_STREAM, LOCATIONS.index(location)]).spawn(4)
    roads_rng, map_rng, static_rng, relief_rng = (
        np.random.Generator(np.random.PCG64(stream)) for stream in streams)

    network = draw_network(style, roads_rng)
    edge = np.ceil(network.nodes_N2.max(axis=0) + 110.0)
    city_map = draw_map(network, style, map_rng)
    canvas_edge = (float(edge[0]), float(edge[1]))
    ground = paint_ground(network, city_map, style, canvas_edge)
    build_standing = partial(build_static, network, city_map, style, static_rng)
    return City(location, seed, style, network, city_map, ground, canvas_edge, build_standing,
                draw_relief(relief_rng))
