"""Compiled loops whose work is shared between threads."""
from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch


def run_shares(count: int, loop: Callable, *arguments: np.ndarray, threads: int | None = None) -> None:
    """Run `loop(*arguments, first, last)` for parts of 0 .. count, each in a thread of its own.

    Args:
        count: how many steps there are in all.
        loop: lets other threads work meanwhile (numba's `nogil`).
        *arguments: passed on to every part.
        threads: as many as torch may use by default. Not numba's `prange`, whose OpenMP layer would set
            torch's number of threads for the rest of the process.
    """
    borders = np.linspace(0, count, min(threads or torch.get_num_threads(), count) + 1).astype(int)
    parts = [
        threading.Thread(target=loop, args=(*arguments, first, last))
        for first, last in zip(borders[1:-1], borders[2:], strict=True)]
    for part in parts:
        part.start()

    # the calling thread takes the first part
    loop(*arguments, borders[0], borders[1])
    for part in parts:
        part.join()
