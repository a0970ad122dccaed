"""The page itself: one file beside the logs, without scripts, that opens offline."""
from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ...core.files import write_text
from ...registry import headline
from .charts import charts_of, draw
from .history import History, Picture, read_history

PAGE_NAME = 'training.html'
MOST_PICTURES = 6
"""Of one name: the first and the newest."""

_STYLE = (
    'body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}'
    'table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .9em;text-align:right;'
    'border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}'
    '.charts{display:flex;flex-wrap:wrap;gap:12px}.charts svg{width:370px;height:auto}'
    'figure{margin:1em 0}figure img{max-width:100%;border:1px solid #ddd}figcaption{color:#555}')


def write_page(work_dir: str | Path, path: str | Path | None = None, refresh_s: int = 0) -> Path:
    """Write the page of a training, whole or not at all.

    Args:
        work_dir: of the training.
        path: of the page; None: `training.html` in the work dir.
        refresh_s: a browser loads the page again after so many seconds; 0: when it is told to.

    Returns:
        The path.

    Raises:
        FileNotFoundError: the folder has no logs of a training.
    """
    work_dir = Path(work_dir)
    path = work_dir / PAGE_NAME if path is None else Path(path)
    history = read_history(work_dir)
    return write_text(path, page(history, work_dir.resolve().name, path.resolve().parent, refresh_s))


def page(history: History, title: str, folder: Path, refresh_s: int = 0) -> str:
    """The text of the page; `folder` is where it will lie."""
    sections = charts_of(history, headline())
    links = ' &middot; '.join(f'<a href="#{name}">{name}</a>' for name in (*sections, 'Pictures'))
    parts = [
        f'<h1>{escape(title)}</h1><p>step {history.step}, {history.runs} run(s) &middot; {links}</p>',
        _scores(history)]
    for name, charts in sections.items():
        drawn = ''.join(draw(chart) for chart in charts)
        parts.append(f'<h2 id="{name}">{name}</h2><div class="charts">{drawn}</div>')

    parts.append('<h2 id="Pictures">Pictures</h2>' + _pictures(history.pictures, folder))
    refresh = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ''
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>{refresh}'
        f'<style>{_STYLE}</style><body>{"".join(parts)}</body></html>\n')


def _scores(history: History) -> str:
    """The last and the best of the scores by which models are compared."""
    rows = []
    for title, name in headline().items():
        points = history.validation.get(name)
        if points:
            step, best = max(points, key=lambda point: point[1])
            rows.append(f'<tr><td>{escape(title)}</td><td>{points[-1][1]:.4f}</td><td>{best:.4f}</td>'
                        f'<td>{step}</td></tr>')
    if not rows:
        return '<p>no validation yet</p>'
    head = '<tr><th>score</th><th>last</th><th>best</th><th>at step</th></tr>'
    return f'<table>{head}{"".join(rows)}</table>'


def _pictures(pictures: Sequence[Picture], folder: Path) -> str:
    """Figures of each name, the newest first; files are linked, not copied."""
    by_name: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_name.setdefault(picture.name, []).append(picture)

    figures = []
    for name, of_name in by_name.items():
        for picture in reversed([*of_name[:1], *of_name[1:][-(MOST_PICTURES - 1):]]):
            link = quote(Path(os.path.relpath(picture.path, folder)).as_posix())
            figures.append(f'<figure><img loading="lazy" src="{link}" alt="{escape(name)}"><figcaption>'
                           f'{escape(name)}, step {picture.step}</figcaption></figure>')
    return ''.join(figures) or '<p>none yet</p>'
