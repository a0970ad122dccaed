"""Arrays as text: what the page unpacks is what went in, and no word of a file ends a script."""
from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest

from perception.core.grid import BEVGrid
from perception.visualization.pages.packing import pack, pack_points, rounded, script_json
from perception.visualization.pages.shapes import BoxShapes, CellShapes, LineShapes, VoxelShapes

RED = {'a': (255, 0, 0)}


def unpack(packed: dict[str, str]) -> np.ndarray:
    """As `static/arrays.js` does it."""
    data = zlib.decompress(base64.b64decode(packed['data']))
    return np.frombuffer(data, np.dtype(packed['kind']).newbyteorder('<'))


def unpack_points(packed: dict[str, str]) -> np.ndarray:
    steps = unpack(packed).reshape(3, -1).astype(np.int64)
    return ((np.cumsum(steps, 1) + 2**15) % 2**16 - 2**15).T / 100


def test_points_keep_their_centimetres_even_across_the_whole_range():
    points = np.array([[0.004, -1.236, 2], [327.67, -327.67, 0], [-327.6, 327.6, 5], [1, 2, 3]])
    np.testing.assert_allclose(unpack_points(pack_points(points)), points, atol=0.0051)


def test_points_too_far_for_16_bit_or_nowhere_are_left_out():
    points = np.array([[1, 2, 3], [400, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0]])
    np.testing.assert_allclose(unpack_points(pack_points(points)), [[1, 2, 3]])


def test_no_point_at_all_is_packed_too():
    assert unpack(pack_points(np.zeros((0, 3)))).size == 0


def test_an_array_that_the_page_does_not_know_is_refused():
    with pytest.raises(ValueError, match='float32'):
        pack(np.zeros(3, np.float32))


def test_numbers_that_are_not_finite_become_null():
    assert json.loads(script_json(rounded(np.array([1.237, np.nan, np.inf])))) == [1.24, None, None]


def test_words_cannot_end_a_script():
    text = script_json({'a': '</script><!--<script>&'})
    assert not set('<>&') & set(text)
    assert json.loads(text) == {'a': '</script><!--<script>&'}


def test_boxes_without_velocity_or_scores_say_so():
    box = np.array([[1, 2, 3, 4, 5, 6, 0.1234, np.nan, np.nan]])
    page = BoxShapes(box, np.array([0]), RED).to_page()
    assert page == {'items': [[1, 2, 3, 4, 5, 6, 0.123, None, None]], 'labels': [0], 'scores': None}


def test_long_lines_have_a_point_every_two_metres():
    page = LineShapes((np.array([[0.0, 0], [5, 0], [5, 1]]),), np.array([0]), RED, np.array([0.5])).to_page()
    np.testing.assert_allclose(
        page['items'][0], [[0, 0], [1.67, 0], [3.33, 0], [5, 0], [5, 1]], atol=0.006)
    assert page['scores'] == [0.5]


def test_cells_have_a_bit_for_each_of_their_classes():
    masks = np.zeros((2, 2, 3), bool)
    masks[0, 0], masks[1, 0, 2] = True, True
    page = CellShapes(masks, BEVGrid((0, 3), (0, 2), 1.0), RED).to_page()
    assert page['shape'] == [2, 3] and unpack(page['packed']).tolist() == [1, 1, 3, 0, 0, 0]


def test_more_classes_than_bits_are_refused():
    with pytest.raises(ValueError, match='at most 16 classes, found 17'):
        CellShapes(np.zeros((17, 2, 2), bool), BEVGrid((0, 2), (0, 2), 1.0), RED)


def test_voxels_run_fastest_along_z():
    labels = np.full((2, 2, 2), 255, np.uint8)
    labels[0, 1, 0] = 4
    page = VoxelShapes(labels, (0.0, 0.0, 0.0), 0.4, RED).to_page()
    assert unpack(page['packed']).tolist() == [255, 255, 4, 255, 255, 255, 255, 255]
