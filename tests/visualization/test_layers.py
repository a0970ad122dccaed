"""Layers hold what a prediction or the labels say, in the right place; a task that is absent has no layer."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from perception.core.contracts import Annotations, MapSegmentation, TaskOutput
from perception.registry import TASK_LAYERS
from perception.visualization import DrawingOptions, TaskLayer, draw_frame, layers_of_output, layers_of_truth
from perception.visualization.bev import BevCanvas
from perception.visualization.detection import DetectionLayer
from perception.visualization.lanes import LaneLayer
from perception.visualization.legend import LegendEntry
from perception.visualization.map_segmentation import MapLayer
from perception.visualization.occupancy import OccupancyLayer
from tests.visualization.frames import BOXES, FRAME, make_annotations, make_output, make_sample, painted


def by_kind(layers: tuple[TaskLayer, ...]) -> dict[type, TaskLayer]:
    return {type(layer): layer for layer in layers}


def test_a_predictions_layers_keep_what_is_sure():
    layers = by_kind(layers_of_output(make_output(), score_threshold=0.3, map_threshold=0.5))
    np.testing.assert_array_equal(layers[DetectionLayer].boxes_M9, BOXES[:1])
    assert layers[DetectionLayer].labels_M.tolist() == [0]
    assert layers[MapLayer].masks_6YX.sum((1, 2)).tolist() == [400, 0, 0, 0, 0, 0]
    assert [(len(line), label) for line, label in layers[LaneLayer].lines] == [(20, 0)]
    assert (layers[OccupancyLayer].semantics_XYZ != 17).sum() == 300


def test_lower_thresholds_keep_more():
    layers = by_kind(layers_of_output(make_output(), score_threshold=0.05, map_threshold=0.3))
    assert len(layers[DetectionLayer].boxes_M9) == 2 and len(layers[LaneLayer].lines) == 2
    assert layers[MapLayer].masks_6YX[1].sum() == 400


def test_the_map_lies_on_its_own_grid():
    small = MapSegmentation(np.zeros((6, 50, 100), np.float32), (0.0, 100.0), (-25.0, 25.0))
    grid = by_kind(layers_of_output(replace(make_output(), map_segmentation=small)))[MapLayer].grid
    assert (grid.x_range_m, grid.y_range_m, grid.cell_m) == ((0.0, 100.0), (-25.0, 25.0), 1.0)


def test_tasks_that_a_model_lacks_have_no_layer():
    assert layers_of_output(TaskOutput(FRAME)) == ()
    assert layers_of_truth(Annotations('token')) == ()


@pytest.mark.parametrize('absent', ['detection', 'map_segmentation', 'occupancy', 'lanes'])
def test_one_absent_task_leaves_the_other_layers(absent):
    kinds = set(by_kind(layers_of_output(replace(make_output(), **{absent: None}))))
    assert kinds == {DetectionLayer, MapLayer, LaneLayer, OccupancyLayer} - {TASK_LAYERS.get(absent)}


def test_the_truths_layers():
    layers = by_kind(layers_of_truth(make_annotations()))
    np.testing.assert_array_equal(layers[DetectionLayer].boxes_M9, BOXES)
    rows, columns = np.nonzero(layers[MapLayer].masks_6YX[0])
    # the devkit's rule fills the border
    assert 400 <= len(rows) <= 441 and rows.min() == 120 and columns.min() == 150
    (line, label), = layers[LaneLayer].lines
    assert label == 3 and line[:, 0].min() == -30 and line[:, 0].max() == 30, 'lanes are cut to 60 m'
    assert layers[OccupancyLayer].mask_XYZ is None
    masked = by_kind(layers_of_truth(make_annotations(), camera_mask=True))
    assert (masked[OccupancyLayer].mask_XYZ == 0).all()


# a fifth task

@dataclass(frozen=True)
class RainLayer(TaskLayer):
    title = 'rain'
    mm_per_h: float

    @classmethod
    def from_prediction(cls, prediction: float, options: DrawingOptions) -> RainLayer:
        return cls(prediction)

    @classmethod
    def from_truth(cls, labels: float, options: DrawingOptions) -> RainLayer:
        return cls(labels)

    def legend(self) -> tuple[LegendEntry, ...]:
        return (LegendEntry('heavy rain', (1, 2, 3)),)

    def draw_on_camera(self, canvas) -> None:
        canvas.image[20:30] = (4, 5, 6)

    def draw_on_bev(self, canvas: BevCanvas) -> None:
        canvas.draw_dot(np.array([20.0, -20.0]), (7, 8, 9), radius_px=round(self.mm_per_h))

    def draw_panel(self) -> np.ndarray:
        return np.full((600, 300, 3), (10, 11, 12), np.uint8)


@pytest.fixture
def rain():
    TASK_LAYERS.register_module('rain', module=RainLayer)
    yield
    del TASK_LAYERS.module_dict['rain']


def test_a_task_of_your_own_is_drawn_in_every_view(rain):
    output, truth = TaskOutput(FRAME, extra={'rain': 12.0}), Annotations('token', extra={'rain': 6.0})
    prediction, labels = layers_of_output(output), layers_of_truth(truth)
    assert prediction == (RainLayer(12.0),) and labels == (RainLayer(6.0),)

    picture = draw_frame(make_sample(), prediction, labels)
    for colour in ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)):
        assert len(painted(picture, colour)) > 50, colour


def test_a_model_without_your_task_is_drawn_as_before(rain):
    assert {type(layer) for layer in layers_of_output(make_output())} == {
        DetectionLayer, MapLayer, LaneLayer, OccupancyLayer}


def test_layers_come_in_the_order_they_are_drawn():
    kinds = [type(layer) for layer in layers_of_output(make_output())]
    assert kinds == [MapLayer, LaneLayer, DetectionLayer, OccupancyLayer]
