"""Weights of 8 bits where the processor has VNNI, of 7 where products with 8 saturate."""
from __future__ import annotations

import numpy as np
import pytest

from perception.deployment import processor
from perception.deployment.processor import machine_name, machine_words, weight_bits


@pytest.mark.parametrize(
    ('flags', 'architecture', 'bits'),
    [
        (['avx2', 'avx512f', 'avx512_vnni'], 'x86_64', 8),
        (['avx2', 'avx_vnni'], 'AMD64', 8),
        (['avx2'], 'x86_64', 7),
        (['avx2', 'avx512f'], 'x86_64', 7),
        ([], 'x86_64', 7),
        ([], 'aarch64', 8),
    ],
)
def test_weights_have_the_bits_that_the_processor_can_use(flags: list[str], architecture: str, bits: int):
    assert weight_bits(flags, architecture) == bits


def test_an_unknown_x86_processor_counts_as_one_without_vnni(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processor, 'processor_info', dict)
    assert weight_bits(architecture='x86_64') == 7
    assert machine_name()['instructions'] == [] and machine_words()


def test_sums_of_two_products_fit_16_bits_with_7_bits_alone():
    largest = np.iinfo(np.int16).max
    assert 2 * 255 * 64 <= largest < 2 * 255 * 127
