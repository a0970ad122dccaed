"""Matrices of tasks against tasks as a picture, a row for each checkpoint."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw_matrices(
    path: str | Path, tasks: Sequence[str], rows: Sequence[tuple[str, dict[str, Any]]]
) -> Path:
    """Write a picture of square matrices with their numbers in the cells.

    Args:
        path: of the PNG.
        tasks: T names.
        rows: (name of the row, {title: matrix `(T, T)`}), the same titles in every row. Colours are
            symmetrical around zero, with one range a title.

    Returns:
        The path.
    """
    import matplotlib
    matplotlib.use('Agg')
    import numpy as np
    from matplotlib import pyplot

    titles = list(rows[0][1])
    size = 1.2 + 0.85 * len(tasks)
    figure, axes = pyplot.subplots(
        len(rows), len(titles), figsize=((size + 1.2) * len(titles), size * len(rows)), squeeze=False,
        layout='constrained')

    for column, title in enumerate(titles):
        largest = max(float(np.nanmax(np.abs(np.asarray(row[title])))) for _, row in rows) or 1.0
        for line, (name, row) in enumerate(rows):
            axis, matrix = axes[line, column], np.asarray(row[title])
            axis.imshow(matrix, cmap='RdBu', vmin=-largest, vmax=largest)
            axis.set_title(f'{title}\n{name}', fontsize=9)
            axis.set_xticks(range(len(tasks)), tasks, rotation=30, ha='right', fontsize=8)
            axis.set_yticks(range(len(tasks)), tasks, fontsize=8)
            for (i, j), value in np.ndenumerate(matrix):
                dark = abs(value) > 0.6 * largest
                axis.text(j, i, f'{value:+.2g}', ha='center', va='center', fontsize=8,
                          color='white' if dark else 'black')

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
