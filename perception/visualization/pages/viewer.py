"""The interactive page of a drive: one file that opens without a network, drawn by three.js."""
from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ...core.contracts import Frame, Sample
from ...core.files import write_text
from ..layers import Layers
from .cameras import camera_records
from .library import three_js
from .packing import pack_points, script_json

LOWEST_SCORE = 0.05
"""Boxes and lanes below this are not in the page at all."""
MOST_POINTS = 40_000
"""Of more LiDAR points in a frame every second, third ... is kept."""
_SCRIPTS = ('arrays.js', 'compare.js', 'shapes.js', 'view.js', 'main.js')


@dataclass(frozen=True)
class ViewerFrame:
    """One frame of the page.

    Attributes:
        name: of the frame, for the line above.
        sample: its sensors; of the LiDAR the newest sweep is shown.
        sources: {'prediction': layers, 'truth': layers, ...}; layers are made with `LOWEST_SCORE`.
    """

    name: str
    sample: Sample
    sources: Mapping[str, Layers]


@dataclass(frozen=True)
class ViewerOptions:
    """How the page looks at first.

    Attributes:
        score: boxes and lanes from this score are shown; the page has a slider.
        camera_width_px: images are made this narrow.
    """

    score: float = 0.3
    camera_width_px: int = 400


class ViewerWriter:
    """Collects frames in the order they are played, each packed at once, and writes their page.

    Args:
        title: heading of the page.
        options: how it looks at first.

    Raises:
        ImportError: the [viewer] extra is not installed.
    """

    def __init__(self, title: str, options: ViewerOptions | None = None) -> None:
        self.title = title
        self.options = options or ViewerOptions()
        self.library = three_js()  # missing, it is said before anything is drawn
        self._data: list[str] = []
        self._names: list[dict[str, Any]] = []
        self._layers: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, None] = {}

    def add(self, frame: ViewerFrame) -> None:
        """Take one more frame."""
        sources = {}
        for source, layers in frame.sources.items():
            self._sources[source] = None
            sources[source] = dict(self._shapes(layers))

        sample, width_px = frame.sample, self.options.camera_width_px
        record = {
            'sources': sources, 'points': _points(sample),
            'cameras': [] if sample.camera is None else camera_records(sample.camera, width_px)}
        self._data.append(script_json(record))
        self._names.append(_named(frame.name, sample.frame))

    def _shapes(self, layers: Layers) -> Iterator[tuple[str, dict[str, Any]]]:
        for layer in layers:
            shapes = layer.shapes()
            if shapes is None:
                continue
            classes = [[name, list(colour)] for name, colour in shapes.palette.items()]
            known = self._layers.setdefault(
                layer.title, {'name': layer.title, 'kind': shapes.kind, 'classes': classes})
            if known['classes'] != classes:
                raise ValueError(
                    f'viewer, layer {layer.title}: expected one list of classes in all sources, found '
                    f'{[name for name, _ in known["classes"]]} and {[name for name, _ in classes]}')
            yield layer.title, shapes.to_page()

    def write(self, path: str | Path) -> Path:
        """Write the page, whole or not at all.

        Raises:
            ValueError: there is no frame.
        """
        if not self._data:
            raise ValueError(f'viewer {path}: no frame to show')
        return write_text(path, self._page())

    def _page(self) -> str:
        begin_s = self._names[0]['time_s']
        frames = [{**name, 'time_s': round(name['time_s'] - begin_s, 3)} for name in self._names]
        facts = {
            'title': self.title, 'frames': frames, 'sources': list(self._sources),
            'layers': list(self._layers.values()), 'score': max(self.options.score, LOWEST_SCORE),
            'lowest_score': LOWEST_SCORE}
        data = [_data_element('page', script_json(facts))]
        data += [_data_element(f'frame-data-{i}', record) for i, record in enumerate(self._data)]

        scripts = [self.library, *(static_text(name) for name in _SCRIPTS)]
        return Template(static_text('page.html')).substitute(
            TITLE=html.escape(self.title), POLICY=_policy(scripts), STYLE=static_text('page.css'),
            DATA='\n'.join(data), SCRIPTS='\n'.join(f'<script>{script}</script>' for script in scripts))


@lru_cache
def static_text(name: str) -> str:
    """A file of the folder `static`."""
    return resources.files(__package__).joinpath('static', name).read_text(encoding='utf-8')


def _data_element(name: str, text: str) -> str:
    return f'<script type="application/json" id="{name}">{text}</script>'


def _policy(scripts: Iterable[str]) -> str:
    """Nothing may be fetched, and no script may run but these."""
    hashes = ' '.join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"
        for text in scripts)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes}"


def _named(name: str, frame: Frame) -> dict[str, Any]:
    scene = ', '.join(filter(None, (frame.scene, frame.location)))
    return {'name': name, 'scene': scene, 'time_s': frame.timestamp_ns / 1e9}


def _points(sample: Sample) -> dict[str, str] | None:
    if sample.lidar is None:
        return None
    points = sample.lidar.points_P6
    newest = points[points[:, 5] == 0][:, :3]
    every = max(1, int(np.ceil(len(newest) / MOST_POINTS)))
    return pack_points(newest[::every])
