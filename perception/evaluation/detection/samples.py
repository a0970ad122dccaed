"""The samples of a results file, compared with those of its split."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.contracts import check_same_classes
from ..errors import ResultError
from .boxes import BoxTable
from .file import MAX_BOXES_PER_SAMPLE, DetectionResults
from .tables import Drives
from .truth import GroundTruth


def align(
    results: DetectionResults, truth: GroundTruth | Drives, max_boxes: int = MAX_BOXES_PER_SAMPLE
) -> BoxTable:
    """The results' boxes with `sample_M` counting the truth's samples, in the order of the file.

    On a custom split those of the split alone, in the truth's order of samples.

    Raises:
        ResultError: the classes of the two differ, or their samples (on a custom split: one is missing), or a
            sample has too many boxes.
    """
    if isinstance(truth, GroundTruth):
        try:
            check_same_classes(results.format.classes, truth.classes, ('results', 'the truth'))
        except ValueError as error:
            raise ResultError(str(error)) from None

    row_of = truth.index()
    if truth.is_custom:
        results = results.of_samples(row_of)
    unknown = [token for token in results.tokens if token not in row_of]
    if unknown:
        raise ResultError(
            f'results: {len(unknown)} sample tokens are not in this split, the first is "{unknown[0]}"'
        )

    missing = set(truth.tokens) - set(results.tokens)
    if missing:
        first = next(token for token in truth.tokens if token in missing)
        raise ResultError(
            f'results: {len(missing)} of {len(truth)} samples are missing, the first is "{first}" '
            '(a sample without detections needs an empty list)'
        )

    boxes = results.boxes
    counts = np.bincount(boxes.sample_M, minlength=1)
    if counts.max() > max_boxes:
        token = results.tokens[int(counts.argmax())]
        raise ResultError(
            f'results["{token}"] has {counts.max()} boxes. '
            f'Error: Only <= {max_boxes} boxes per sample allowed!'
        )

    row_of_result = np.array([row_of[token] for token in results.tokens], dtype=np.int32)
    return replace(boxes, sample_M=row_of_result[boxes.sample_M])
