"""Records of options: what a configuration's dictionary becomes, and what is refused."""
from __future__ import annotations

from dataclasses import dataclass

import pytest

from perception.core.config import build_record


@dataclass(frozen=True)
class Options:
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f'layers: expected 1 or more, found {self.layers}')


@pytest.mark.parametrize('options', [None, {}, dict(layers=2), Options()])
def test_what_is_not_given_keeps_its_default(options) -> None:
    assert build_record(Options, options, 'Decoder') == Options(layers=2, heads=4)


def test_given_options_are_taken() -> None:
    assert build_record(Options, dict(heads=8), 'Decoder') == Options(layers=2, heads=8)


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"Lanes\.decoder: unknown option 'layer'; did you mean 'layers'\?"):
        build_record(Options, dict(layer=3), 'Lanes.decoder')


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match='layers: expected 1 or more, found 0'):
        build_record(Options, dict(layers=0), 'Decoder')
