"""A corruption as a transform of a dataset's pipeline, for training and for tests."""
from __future__ import annotations

import zlib
from typing import Protocol

import numpy as np

from ...core.contracts import Annotations, Sample
from ...registry import TRANSFORMS
from ..transforms.image import Pair
from .base import corruption


class KnowsPrevious(Protocol):
    """A dataset that can tell which frame came before."""

    def previous_sample(self, sample: Sample) -> Sample | None:
        """The frame before this one; None at the start of a drive."""


@TRANSFORMS.register_module()
class Corrupt:
    """Let sensors fail: `dict(type='Corrupt', name='fog', severity='random', probability=0.3)`.

    Put it first in a pipeline: corruptions are defined on the frame as the sensors give it, before resizing
    and augmentation.

    Args:
        name: one of `corruptions()`.
        severity: one of its values, or 'random' for any that changes something.
        probability: of the sample being corrupted at all.
        drive_seed: None draws everything afresh for each sample, for training. A number makes failures that
            last (a dead camera, dirt, drift) the same in all samples of a drive, for tests.

    Raises:
        ValueError: an unknown name or severity, or no probability.
    """

    def __init__(self, name: str, severity: float | str = 'random', probability: float = 1.0,
                 drive_seed: int | None = None) -> None:
        self.corruption = corruption(name)
        if severity != 'random' and severity not in self.corruption.severities:
            known = f'{self.corruption.severities} ({self.corruption.unit})'
            raise ValueError(f"severity: expected 'random' or one of {known}, found {severity!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f'probability: expected 0..1, found {probability}')
        self.severity = severity
        self.probability = probability
        self.drive_seed = drive_seed
        self._dataset: KnowsPrevious | None = None

    def bind(self, dataset: KnowsPrevious) -> None:
        """Keep the dataset whose pipeline this is in; the dataset calls it."""
        self._dataset = dataset

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Corrupt the sample with the transform's probability."""
        happens = rng.uniform() < self.probability
        severity = rng.choice(self.corruption.harmful) if self.severity == 'random' else self.severity
        if not happens:
            return sample, annotations

        if self.drive_seed is not None and self.corruption.lasting:
            drive = sample.frame.scene or sample.frame.token
            rng = np.random.default_rng([self.drive_seed, zlib.crc32(drive.encode())])
        previous = None if self._dataset is None else self._dataset.previous_sample
        return self.corruption(sample, severity, rng, annotations, previous), annotations
