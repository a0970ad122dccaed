"""Results files of tracks, made of the truth."""
from __future__ import annotations

import numpy as np
import pytest

from perception.core.protocols import DETECTION_CLASSES, TRACKING_CLASSES
from tests.evaluation.conftest import FLAGS

CASES = {
    'perfect': {}, 'noisy': dict(noise_m=0.5, lost=0.2),
    'confused': dict(noise_m=0.7, lost=0.3, swapped=0.2, wrong=0.4),
    'box_scores': dict(noise_m=1.0, lost=0.4, swapped=0.3, wrong=0.5, of_track=False),
    'ties': dict(noise_m=0.5, lost=0.2, swapped=0.2, wrong=0.3, levels=3), 'far_off': dict(noise_m=5.0)}
"""What `tracks_as_results` may do, by name."""


def tracks_as_results(
    truth, seed: int = 0, noise_m: float = 0.0, lost: float = 0.0, swapped: float = 0.0, wrong: float = 0.0,
    of_track: bool = True, levels: int = 0,
) -> dict:
    """The truth's boxes as tracks: moved, some lost, under wrong ids, or of a wrong class; some invented.

    `of_track` gives every box of an id one score; `levels` allows only so many (ties).
    """
    rng, score_of = np.random.default_rng(seed), {}
    results: dict[str, list[dict]] = {token: [] for token in rng.permutation(truth.tokens).tolist()}
    boxes = truth.boxes
    for row, instance in enumerate(truth.instances):
        name, token = DETECTION_CLASSES[boxes.label_M[row]], truth.tokens[boxes.sample_M[row]]
        if name not in TRACKING_CLASSES or rng.random() < lost:
            continue

        key = f'{instance}-{rng.integers(2)}' if rng.random() < swapped else instance
        score = float(score_of.setdefault(key, rng.random()) if of_track else rng.random())
        score = round(score * levels) / levels if levels else score
        name = 'car' if rng.random() < swapped / 5 else name
        for copy in range(1 + (rng.random() < wrong)):
            moved = boxes.centre_M3[row] + rng.normal(size=3) * noise_m * (1 + copy)
            results[token].append(
                dict(
                    sample_token=token, translation=moved.tolist(), size=boxes.size_M3[row].tolist(),
                    rotation=[1.0, 0.0, 0.0, 0.0], velocity=[0.0, 0.0], tracking_name=name,
                    tracking_id=f'wrong-{rng.integers(10 ** 9)}' if copy else key, tracking_score=score)
            )
    return {'meta': dict(FLAGS), 'results': results}


@pytest.fixture(params=list(CASES))
def perturbed(request, small_truth) -> tuple[str, dict]:
    """Every case of a results file: (name, content)."""
    return request.param, tracks_as_results(small_truth, **CASES[request.param])
