"""The map metric on masks one can count by eye."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import (
    Annotations,
    BoxLabels,
    Frame,
    MapLayers,
    MapSegmentation,
    TaskOutput,
)
from perception.core.geometry import make_transform, rotation_z
from perception.core.grid import BEVGrid
from perception.core.protocols import MAP_AND_VEHICLE_CLASSES, MAP_CLASSES, MAP_GRID
from perception.core.raster import with_vehicles
from perception.evaluation.map_segmentation.metric import MapIoU
from perception.evaluation.map_segmentation.protocol import (
    THRESHOLDS,
    MapCounts,
    count_map,
    draw_truth,
    iou_table,
    iou_table_reference,
    map_scores,
    on_grid,
)
from perception.evaluation.map_segmentation.window import looked_up


def layers() -> MapLayers:
    square = np.array([[-10.0, -10], [10, -10], [10, 10], [-10, 10]])
    hole = np.array([[-2.0, -2], [2, -2], [2, 2], [-2, 2]])
    polygons = {name: ((square + 5 * i, ()),) for i, name in enumerate(MAP_CLASSES[:5])}
    polygons['drivable_area'] = ((square, (hole,)),)
    return MapLayers(polygons, {'divider': (np.array([[-30.0, 3], [30, 3]]),)}, 60.0)


def test_truth_as_prediction_is_perfect():
    truth = draw_truth(layers())
    scores = map_scores(count_map(truth.astype(np.float32), truth))
    assert truth.shape == (6, 200, 200) and truth.reshape(6, -1).any(1).all()
    assert scores['map/mIoU'] == pytest.approx(1, abs=1e-6) and scores['map/mIoU@0.5'] == pytest.approx(
        1, abs=1e-6
    )


def test_vehicles_have_their_own_score_and_the_six_keep_theirs():
    """A perfect map in which the one car is not found: mIoU 1, vehicle 0, seven 6/7, four 3/4."""
    car = np.array([[5.0, 5, 0, 4, 2, 1.5, 0.3, 0, 0], [-5, 5, 0, 0.6, 0.6, 1.7, 0, 0, 0]], np.float32)
    boxes = BoxLabels(car, np.array([0, 5]), *[np.full(2, -1)] * 4)
    frame = Frame('a', 0, np.eye(4))
    truth = Annotations('a', boxes=boxes, map_layers=layers())
    drawn = draw_truth(with_vehicles(layers(), boxes), classes=MAP_AND_VEHICLE_CLASSES)
    assert 24 <= drawn[6].sum() <= 60  # 8 square metres in cells of 0.25, and those that the outline touches
    assert drawn[6, 110, 110] and not drawn[6, 110, 90]

    def scores(probabilities: np.ndarray, annotations: Annotations) -> dict[str, float] | None:
        prediction = MapSegmentation(probabilities.astype(np.float32), MAP_GRID.x_range_m, MAP_GRID.y_range_m)
        counts = MapIoU().summarise(TaskOutput.of(frame, {'map_segmentation': prediction}), annotations)
        return None if counts is None else map_scores(counts)

    blind = drawn * (np.arange(7) < 6)[:, None, None]
    found = scores(blind, truth)
    assert [found[f'map/{name}'] for name in ('mIoU', 'IoU_vehicle', 'mIoU_seven', 'mIoU_four')] == (
        pytest.approx([1, 0, 6 / 7, 3 / 4], abs=1e-6))
    assert scores(drawn, truth)['map/IoU_vehicle'] == pytest.approx(1, abs=1e-6)
    assert scores(drawn, Annotations('a', map_layers=layers())) is None  # where cars are is not known
    assert 'map/mIoU_seven' not in scores(drawn[:6], truth)


def four_cells(probabilities, truth) -> MapCounts:
    """The same four cells for each class."""
    return count_map(np.tile(np.array(probabilities, np.float32).reshape(1, 2, 2), (6, 1, 1)),
                     np.tile(np.array(truth, bool).reshape(1, 2, 2), (6, 1, 1)))


def test_four_cells_by_hand():
    """Truth 1 1 0 0, probabilities .9 .4 .45 .1: at 0.35 and 0.40 TP 2, FP 1: 2/3; at 0.45 TP 1, FP 1, FN 1:
    1/3; above 1/2."""
    counts = four_cells([0.9, 0.4, 0.45, 0.1], [1, 1, 0, 0])
    assert iou_table(counts)[0] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 2, 1 / 2, 1 / 2, 1 / 2], abs=1e-6)
    scores = map_scores(counts)
    assert scores['map/mIoU'] == pytest.approx(2 / 3, abs=1e-6) and scores['map/mIoU@0.5'] == pytest.approx(
        1 / 2, abs=1e-6
    )
    assert scores['map/best_threshold_walkway'] == 0.35


def test_best_threshold_is_chosen_over_the_split_not_per_sample():
    """Two samples that prefer different thresholds: the sum of counts decides."""
    counts = four_cells([0.9, 0.4, 0.1, 0.1], [1, 1, 0, 0]) + four_cells([0.9, 0.4, 0.4, 0.4], [1, 0, 0, 0])
    assert map_scores(counts)['map/mIoU'] == pytest.approx(2 / 3, abs=1e-6)
    assert counts.samples == 2


def test_a_probability_equal_to_the_threshold_counts():
    assert iou_table(four_cells([0.65, 0, 0, 0], [1, 0, 0, 0]))[0] == pytest.approx([1] * 7, abs=1e-6)


def test_counts_equal_the_reference():
    rng = np.random.default_rng(0)
    probabilities = rng.random((6, 40, 50)).astype(np.float32).round(2)
    truth = rng.random((6, 40, 50)) < 0.3
    np.testing.assert_allclose(
        iou_table(count_map(probabilities, truth)), iou_table_reference(probabilities, truth), atol=1e-12
    )


def test_nothing_there_and_nothing_predicted_is_zero():
    assert map_scores(four_cells([0, 0, 0, 0], [0, 0, 0, 0]))['map/mIoU'] == 0.0


def test_fixed_threshold_never_flatters():
    rng = np.random.default_rng(1)
    scores = map_scores(count_map(rng.random((6, 20, 20)).astype(np.float32), rng.random((6, 20, 20)) < 0.4))
    assert scores['map/mIoU@0.5'] <= scores['map/mIoU']


def test_coarser_prediction_is_looked_up():
    """A 10 x 10 grid of 4 m cells over +-20 m: cell (row 5, column 6) covers x in [4, 8), y in [0, 4)."""
    coarse = np.zeros((6, 10, 10), np.float32)
    coarse[:, 5, 6] = 0.8
    found = on_grid(MapSegmentation(coarse, (-20.0, 20.0), (-20.0, 20.0)))
    rows, columns = np.nonzero(found[0])
    x, y = MAP_GRID.centres_m()[rows, columns].T
    assert found.shape == (6, 200, 200) and len(rows) == 64
    assert (x.min(), x.max(), y.min(), y.max()) == (4.25, 7.75, 0.25, 3.75)


def test_prediction_on_the_protocol_grid_is_untouched():
    own = np.random.default_rng(0).random((6, 200, 200)).astype(np.float32)
    assert on_grid(MapSegmentation(own, (-50.0, 50.0), (-50.0, 50.0))) is own


@pytest.mark.parametrize('value', [np.nan, -0.1, 1.5])
def test_wrong_probabilities_are_named(value):
    with pytest.raises(ValueError, match='probabilities must lie in 0..1'):
        four_cells([value, 0, 0, 0], [0, 0, 0, 0])


def test_thresholds_are_the_protocols():
    assert THRESHOLDS == (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)


def test_the_window_around_the_lidar_by_hand():
    """A LiDAR 1 m before ego's origin that looks to the right: its window reaches from x = -49 to 51 m.

    The areas of the truth lie in front and to the left; the prediction is true on the same cells of ego.
    """
    ego_T_lidar = make_transform(rotation_z(-np.pi / 2)[:3, :3], np.array([1.0, 0.0, 1.8]))
    pose = make_transform(rotation_z(0.4)[:3, :3], np.array([600.0, 1600, 0]))
    frame = Frame('a', 0, pose, ego_T_lidar=ego_T_lidar)
    front = np.array([[40.0, 10], [51, 10], [51, 30], [40, 30]])
    truth = Annotations('a', map_layers=MapLayers({'drivable_area': ((front, ()),)}, {}, 75.0))

    grid = BEVGrid((-49.0, 51.0), (-50.0, 50.0), 0.5)
    probabilities = draw_truth(truth.map_layers, grid).astype(np.float32)
    prediction = MapSegmentation(probabilities, grid.x_range_m, grid.y_range_m)
    output = TaskOutput(frame, map_segmentation=prediction)
    found = looked_up(output.map_segmentation, frame)
    rows, columns = np.nonzero(found[0] > 0.5)
    # 11 m up to the window's end; 10 to 30 m to the left, and the cells of the far outline
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (178, 199, 39, 79)

    by_lidar = MapIoU('lidar')
    part = by_lidar.summarise(output, truth)
    assert by_lidar.scores(part)['map/IoU_drivable_area'] > 0.93  # the outline's cells are drawn, too
    assert part.cells_6TL[0, :, 1].sum() > MapIoU().summarise(output, truth).cells_6TL[0, :, 1].sum()
    assert by_lidar.format_details(by_lidar.details(None)) == ["map: window around the LiDAR (BEVFusion's)"]

    with pytest.raises(ValueError, match='ego_T_lidar is None'):
        by_lidar.summarise(replace(output, frame=replace(frame, ego_T_lidar=None)), truth)
    with pytest.raises(ValueError, match="expected 'ego' or 'lidar', found 'car'"):
        MapIoU('car')
