"""Charts of a training's history, as SVG by matplotlib."""
from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .history import History, Points

MOST_POINTS = 400
"""Of a line; more are averaged, so that a page of a long training stays small."""

GRADIENTS = {
    'gradient norms by task': ('gradient_at_trunk/', 'balance/norm/'),
    'cosines between tasks': ('gradient_cosine/', 'balance/cosine/'),
    'weights of the balancer': ('balance/weight/',)}
"""{title of a chart: beginnings of the names of its lines}, the hook's and the balancer's."""

PROGRESS = {'learning rate': ('lr',), 'norm of the gradient': ('gradient_norm',),
            'share of waiting for data': ('loader_wait_share',), 'seconds a step': ('time',)}


@dataclass(frozen=True)
class Chart:
    """Lines that are drawn together.

    Attributes:
        title: above them.
        lines: {label: points}.
        is_log: whether the values have a logarithmic axis.
    """

    title: str
    lines: Points = field(default_factory=dict)
    is_log: bool = False


def charts_of(history: History, scores: Mapping[str, str]) -> dict[str, list[Chart]]:
    """{section: its charts}, without what was not logged.

    Args:
        history: of the training.
        scores: {title: name} of the scores by which models are compared.
    """
    losses: dict[str, Points] = {}
    for name, points in history.train.items():
        if name == 'loss':
            losses.setdefault('all tasks', {})['total'] = points
        elif name.startswith('loss/'):
            owner, _, term = name.removeprefix('loss/').partition('/')
            losses.setdefault(owner, {})[term or owner] = points

    found = {
        'Losses': [Chart(owner, lines, is_log=True) for owner, lines in losses.items()],
        'Gradients': [Chart(title, _starting(history.train, starts), title != 'cosines between tasks')
                      for title, starts in GRADIENTS.items()],
        'Validation': [Chart(title, {name: history.validation[name]}) for title, name in scores.items()
                       if name in history.validation],
        'Progress': [Chart(title, {name: history.train[name] for name in names if name in history.train})
                     for title, names in PROGRESS.items()]}
    found = {section: [chart for chart in charts if chart.lines] for section, charts in found.items()}
    return {section: charts for section, charts in found.items() if charts}


def _starting(points: Points, starts: Sequence[str]) -> Points:
    """The lines whose names begin so, by the rest of their names; of one rest the first beginning's."""
    found: Points = {}
    for start in starts:
        for name, line in points.items():
            if name.startswith(start):
                found.setdefault(name.removeprefix(start), line)
    return found


def thinned(points: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most so many points: means of equal numbers of neighbours."""
    group = -(-len(points) // most)
    parts = [points[i:i + group] for i in range(0, len(points), group)] if group else []
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts]


def draw(chart: Chart) -> str:
    """A chart as the text of an `<svg>`."""
    import matplotlib
    from matplotlib.figure import Figure

    # no pyplot: it keeps figures, and is not made for a training's process
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'page', 'font.size': 8}):
        # a fixed frame: a layout that is searched for takes as long as everything else
        columns = 3 if len(chart.lines) > 2 and max(map(len, chart.lines)) < 19 else 2
        rows = -(-len(chart.lines) // columns) if len(chart.lines) > 1 else 0
        figure = Figure(figsize=(4.6, 2.7 + 0.2 * rows))
        low = (0.44 + 0.2 * rows) / figure.get_figheight()
        axis = figure.add_axes((0.13, low, 0.84, 0.9 - low))
        for label, points in chart.lines.items():
            steps, values = zip(*thinned(points), strict=True)
            axis.plot(steps, values, label=label, linewidth=1.2, marker='o' if len(steps) < 25 else None,
                      markersize=2.5)

        values = [value for points in chart.lines.values() for _, value in points]
        if chart.is_log and min(values) > 0:
            axis.set_yscale('log')
        axis.set_title(chart.title, fontsize=9, fontweight='bold')
        axis.set_xlabel('step')
        axis.grid(alpha=0.3)
        if rows:
            axis.legend(
                fontsize=6.5, ncols=columns, frameon=False, loc='upper center', borderaxespad=0,
                bbox_to_anchor=(0.45, -0.4 / (0.9 - low) / figure.get_figheight()))

        file = io.StringIO()
        figure.savefig(file, format='svg', metadata={'Date': None})
    text = file.getvalue()
    return text[text.index('<svg'):]
