"""Summaries of single samples on disk, so that a stopped run need not run the model again.

Plain arrays, nothing is unpickled. A summary takes some ten kilobytes where a sample's predictions take a
megabyte. A file appears under its name when it is complete.
"""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ...core.contracts import Frame
from ...core.files import write_whole
from ...core.reading import BadFile, decoding, read_arrays
from ...registry import task_metrics
from ..errors import ResultError
from ..suite import Summary
from .records import holds, record_from_arrays, record_to_arrays
from .results import sample_path, stored_tokens


class SummaryStore:
    """A folder with a file `samples/<token>.npz` per evaluated sample.

    Args:
        folder: made when the first summary is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def tokens(self) -> list[str]:
        """Samples that are there, sorted by name."""
        return stored_tokens(self.folder)

    def write(self, summary: Summary) -> None:
        """Keep one sample's summary."""
        arrays = record_to_arrays(summary)
        write_whole(sample_path(self.folder, summary.frame.token), lambda file: np.savez(file, **arrays))

    def read(self, token: str) -> Summary:
        """One sample's summary.

        Raises:
            ResultError: absent or damaged; names the file.
        """
        path = sample_path(self.folder, token)
        try:
            with decoding(path, 'a summary'):
                return to_summary(read_arrays(path))
        except BadFile as error:
            raise ResultError(
                f'{path}: damaged summary of sample {token} ({error.reason}); delete it to run it again'
            ) from None

    def clear(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def to_summary(arrays: dict[str, np.ndarray]) -> Summary:
    """Inverse of `record_to_arrays` for a summary; each task's metric says what its part is.

    Raises:
        KeyError: an array is missing.
    """
    parts = {
        task: record_from_arrays(metric.summary, arrays, f'parts.{task}')
        for task, metric in task_metrics().items()
        if holds(arrays, f'parts.{task}')
    }
    return Summary(record_from_arrays(Frame, arrays, 'frame'), parts)
