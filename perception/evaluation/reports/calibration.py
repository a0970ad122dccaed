"""Do scores mean what they say: bins of scores, and the expected calibration error.

ECE = sum over bins of n_b / N * |right_b / n_b - mean score_b| (Guo et al., On Calibration of Modern Neural
Networks, ICML 2017, arXiv 1706.04599, equation 3). 0 where a score of 0.7 is right 7 times of 10.
"""
from __future__ import annotations

import numpy as np

BINS = 20


def score_bins(scores_M: np.ndarray, right_M: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Per bin of scores in 0..1: how many, how many right, sum of scores: float64 `(3, bins)`.

    A score of 1 is in the last bin.
    """
    bin_M = np.clip((scores_M * bins).astype(int), 0, bins - 1)
    weights = (np.ones(len(bin_M)), right_M.astype(float), scores_M)
    return np.stack([np.bincount(bin_M, weights=weight, minlength=bins) for weight in weights])


def calibration_error(bins_3K: np.ndarray) -> float:
    """ECE of bins as `score_bins` makes them; NaN where nothing was counted."""
    total = bins_3K[0].sum()
    return float(np.abs(bins_3K[1] - bins_3K[2]).sum() / total) if total else float('nan')
