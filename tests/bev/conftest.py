"""Fixtures of the encoders' tests."""
from __future__ import annotations

import pytest

from perception.core.contracts import Batch
from perception.preprocessor import BatchPreprocessor
from tests.helpers import make_batch


@pytest.fixture
def batch() -> Batch:
    """Two samples, six cameras 64 x 96, 500 points each; images normalised."""
    return BatchPreprocessor()({'inputs': make_batch()})['inputs']
