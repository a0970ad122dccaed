"""Legends: every name with its colour, nothing cut off, at any width."""
from __future__ import annotations

import numpy as np
import pytest

from perception.visualization import palette
from perception.visualization.legend import LegendEntry, draw_legend, entries_of
from tests.visualization.frames import painted

SECTIONS = [
    ('map', entries_of(palette.MAP)), ('lanes', entries_of(palette.LANES, mark='line')),
    ('boxes', entries_of(palette.DETECTION, mark='outline'))]


@pytest.mark.parametrize('width_px', [300, 600, 1200, 2400])
def test_every_colour_is_shown_whole_at_any_width(width_px):
    legend = draw_legend(SECTIONS, width_px)
    assert legend.shape[1] == width_px
    for _, entries in SECTIONS:
        for entry in entries:
            assert len(painted(legend, entry.colour)) > 20, entry.name
    assert (legend[:, -2:] == 255).all() and (legend[-2:] == 255).all(), 'nothing reaches the border'


def test_a_narrow_legend_is_taller():
    assert draw_legend(SECTIONS, 300).shape[0] > draw_legend(SECTIONS, 2400).shape[0]


def test_each_section_begins_a_row():
    red, blue = LegendEntry('red', (255, 0, 0)), LegendEntry('blue', (0, 0, 255))
    legend = draw_legend([('a', [red]), ('b', [blue])], 300)
    assert painted(legend, red.colour)[:, 0].max() < painted(legend, blue.colour)[:, 0].min()


def test_marks_look_as_they_are_drawn():
    colour = (255, 0, 0)
    areas = [
        len(painted(draw_legend([('', [LegendEntry('x', colour, mark)])], 100), colour))
        for mark in ('fill', 'outline', 'line')
    ]
    assert len(set(areas)) == 3


def test_no_entries_make_an_empty_strip():
    strip = draw_legend([], 100)
    assert strip.shape[1:] == (100, 3) and (strip == 255).all() and strip.dtype == np.uint8
