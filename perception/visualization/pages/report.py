"""The static page: scores, then pictures, each with a name that a link can point to."""
from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...core.files import write_text
from ..output import encode_image

_STYLE = (
    'body{font:15px sans-serif;margin:2em auto;max-width:1300px}img{width:100%}'
    'td,th{padding:.15em 1em;border-bottom:1px solid #ddd;text-align:left}'
    'td+td{text-align:right;font-variant-numeric:tabular-nums}'
    'figure{margin:1.5em 0}figcaption{color:#555}nav{margin:1em 0;line-height:1.8}nav a{margin-right:.8em}'
)


def write_report(
    path: str | Path, title: str, scores: Mapping[str, object], pictures: Sequence[tuple[str, np.ndarray]],
    viewer: str | None = None,
) -> Path:
    """Write one self-contained HTML page: a table of scores, links to the frames, then captioned pictures.

    A picture's caption, its letters and digits alone, is its name in the address:
    `report.html#scene-0103-frame-7`.

    Args:
        path: of the page.
        title: its heading.
        scores: {name: number or text}.
        pictures: (caption, uint8 RGB image) pairs.
        viewer: file name of the interactive page of the same frames, beside this one.
    """
    names = anchor_names([caption for caption, _ in pictures])
    figures = [
        _figure(name, caption, image, f'{viewer}#frame-{i}' if viewer else None)
        for i, (name, (caption, image)) in enumerate(zip(names, pictures, strict=True))]
    links = [
        f'<a href="#{name}">{html.escape(caption)}</a>'
        for name, (caption, _) in zip(names, pictures, strict=True)]

    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{_table(scores)}'
        f'<nav>{" ".join(links)}</nav>{"".join(figures)}</html>'
    )
    return write_text(path, page)


def anchor_names(captions: Sequence[str]) -> list[str]:
    """Names for an address, one a caption and each once: lower case, digits, dashes."""
    names: list[str] = []
    for caption in captions:
        name = re.sub(r'[^a-z0-9]+', '-', caption.lower()).strip('-') or 'frame'
        count = 2
        while name in names:
            name, count = f'{name.rsplit("--", 1)[0]}--{count}', count + 1
        names.append(name)
    return names


def _table(scores: Mapping[str, object]) -> str:
    rows = [
        f'<tr><td>{html.escape(str(name))}</td><td>{html.escape(_number(value))}</td></tr>'
        for name, value in scores.items()]
    return f'<table><tr><th>score</th><th>value</th></tr>{"".join(rows)}</table>'


def _figure(name: str, caption: str, image: np.ndarray, address: str | None) -> str:
    data = base64.b64encode(encode_image(image, '.jpg')).decode()
    link = f' <a href="{html.escape(address)}">open in the viewer</a>' if address else ''
    return (
        f'<figure id="{name}"><img alt="{html.escape(caption)}" src="data:image/jpeg;base64,{data}">'
        f'<figcaption><a href="#{name}">{html.escape(caption)}</a>{link}</figcaption></figure>')


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f'{value:.4f}' if math.isfinite(value) else '-'
