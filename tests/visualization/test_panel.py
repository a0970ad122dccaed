"""The sheet: layers hold what an answer or a label says, in the right place, and absent things leave no
trace."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import (
    Annotations,
    Boxes3D,
    BoxLabels,
    CameraRig,
    Frame,
    LanePolylines,
    Lanes,
    LidarPoints,
    MapLayers,
    MapSegmentation,
    Occupancy,
    OccupancyLabels,
    Sample,
    TaskOutput,
)
from perception.core.geometry import rotation_z
from perception.core.protocols import CAMERAS
from perception.visualization import palette
from perception.visualization.panel import (
    Layers,
    draw_bev,
    draw_cameras,
    draw_frame,
    draw_legend,
    enlarged,
    layers_of_output,
    layers_of_truth,
    titled,
)

FRAME = Frame('token', 0, np.eye(4))
BOXES = np.array([[20, 10, 1, 4, 2, 1.5, 0, 0, 0], [-20, -10, 1, 4, 2, 1.5, 0, 0, 0]], np.float32)
FORWARD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
YAW_DEG = dict(zip(CAMERAS, (0, -55, -110, 180, 110, 55), strict=True))


def make_rig(names: tuple[str, ...] = CAMERAS, size_hw: tuple[int, int] = (40, 80)) -> CameraRig:
    """Cameras that look where nuScenes' do; the picture of the n-th has the grey value 20 * n + 20."""
    n, (h, w) = len(names), size_hw
    images = np.stack([np.full((h, w, 3), 20 * i + 20, np.uint8) for i in range(n)])
    K = np.tile(np.array([[0.6 * w, 0, (w - 1) / 2], [0, 0.6 * w, (h - 1) / 2], [0, 0, 1]]), (n, 1, 1))
    poses = np.stack([rotation_z(np.deg2rad(YAW_DEG.get(name, 0))) @ FORWARD for name in names])
    return CameraRig(names, images, K, poses, np.ones(n, bool), np.zeros(n))


def make_sample(**parts: object) -> Sample:
    points = np.array([[10.0, 5, 0, 1, 1, 0], [15, -5, 0, 1, 1, 0], [30, 0, 0, 1, 1, 0.05]], np.float32)
    return Sample(FRAME, **{'camera': make_rig(), 'lidar': LidarPoints(points), **parts})


def make_output() -> TaskOutput:
    probabilities = np.zeros((6, 200, 200), np.float32)
    probabilities[0, 120:140, 150:170] = 0.6  # y in [10, 20), x in [25, 35)
    probabilities[1, 60:80, 150:170] = 0.4
    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[100:110, 100:110, 1:4] = 4
    lines = np.stack([np.stack([np.linspace(0, 20, 20), np.full(20, y)], 1) for y in (3.0, -3.0)]).astype(
        np.float32
    )
    return TaskOutput(FRAME, Boxes3D(BOXES, np.array([0.9, 0.2]), np.array([0, 5]), np.array([5, -1])),
                      MapSegmentation(probabilities, (-50.0, 50.0), (-50.0, 50.0)), Occupancy(semantics),
                      Lanes(lines, np.array([0.8, 0.1]), np.array([0, 2])))


def make_annotations() -> Annotations:
    square = np.array([[25.0, 10], [35, 10], [35, 20], [25, 20]])
    boxes = BoxLabels(
        BOXES, np.array([0, 5]), np.array([5, -1]), np.array([9, 9]), np.array([0, 0]), np.array([4, 4])
    )
    long_line = np.array([[-60.0, 3], [60, 3]], np.float32)
    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[100, 100, 3] = 4
    return Annotations('token', boxes, MapLayers({'drivable_area': ((square, ()),)}, {}, 75.0),
                       OccupancyLabels(semantics, np.ones_like(semantics), np.zeros_like(semantics)),
                       LanePolylines((long_line,), np.array([3]), 65.0))


def painted(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(row, column) of the pixels of exactly this colour."""
    return np.argwhere((image == colour).all(-1))


# ----------------------------------------------------------------------------------------------------------------
# layers

def test_an_answers_layers_keep_what_is_sure():
    layers = layers_of_output(make_output(), score_threshold=0.3, map_threshold=0.5)
    np.testing.assert_array_equal(layers.boxes_M9, BOXES[:1])
    assert layers.labels_M.tolist() == [0]
    assert layers.map_6YX.sum((1, 2)).tolist() == [400, 0, 0, 0, 0, 0]
    assert [(len(line), label) for line, label in layers.lanes] == [(20, 0)]
    assert (layers.semantics_XYZ != 17).sum() == 300


def test_lower_thresholds_keep_more():
    layers = layers_of_output(make_output(), score_threshold=0.05, map_threshold=0.3)
    assert len(layers.boxes_M9) == 2 and len(layers.lanes) == 2 and layers.map_6YX[1].sum() == 400


def test_the_map_lies_on_its_own_grid():
    small = MapSegmentation(np.zeros((6, 50, 100), np.float32), (0.0, 100.0), (-25.0, 25.0))
    grid = layers_of_output(replace(make_output(), map_segmentation=small)).map_grid
    assert (grid.x_range_m, grid.y_range_m, grid.cell_m) == ((0.0, 100.0), (-25.0, 25.0), 1.0)


def test_tasks_that_a_model_lacks_have_no_layer():
    layers = layers_of_output(TaskOutput(FRAME))
    assert (layers.boxes_M9, layers.labels_M, layers.map_6YX, layers.lanes, layers.semantics_XYZ) == (
        None,
    ) * 5
    assert layers_of_truth(Annotations('token')) == Layers()


def test_the_truths_layers():
    layers = layers_of_truth(make_annotations())
    np.testing.assert_array_equal(layers.boxes_M9, BOXES)
    rows, columns = np.nonzero(layers.map_6YX[0])
    # the devkit's rule fills the border
    assert 400 <= len(rows) <= 441 and rows.min() == 120 and columns.min() == 150
    (line, label), = layers.lanes
    assert label == 3 and line[:, 0].min() == -30 and line[:, 0].max() == 30, 'lanes are cut to 60 m'
    assert layers.mask_XYZ is None
    assert (layers_of_truth(make_annotations(), camera_mask=True).mask_XYZ == 0).all()


def test_answer_and_truth_agree_on_where_things_are():
    answer, truth = draw_bev(layers_of_output(make_output())), draw_bev(layers_of_truth(make_annotations()))
    for image in (answer, truth):
        place = painted(image, palette.MAP['drivable_area'])
        # 600 px for 100 m: x in [25, 35] is rows 90 to 150, y in [10, 20] is columns 180 to 240
        assert np.abs(place.min(0) - [90, 180]).max() <= 3 and np.abs(place.max(0) - [150, 240]).max() <= 3


# ----------------------------------------------------------------------------------------------------------------
# views

def test_the_view_from_above_has_left_on_the_left():
    image = draw_bev(Layers(boxes_M9=BOXES, labels_M=np.array([0, 5])), size_px=400)
    car, walker = painted(image, palette.DETECTION['car']), painted(image, palette.DETECTION['pedestrian'])
    assert image.shape == (400, 400, 3)
    np.testing.assert_allclose(car.mean(0), [400 * 0.3, 400 * 0.4], atol=4)  # 20 m ahead, 10 m left
    np.testing.assert_allclose(walker.mean(0), [400 * 0.7, 400 * 0.6], atol=4)


def test_six_cameras_stand_where_a_driver_expects_them():
    rig = make_rig()
    sheet = draw_cameras(rig, width_px=80)
    assert sheet.shape == (80, 240, 3)
    greys = {name: 20 * i + 20 for i, name in enumerate(CAMERAS)}
    corner = {
        name: int(sheet[row * 40 + 38, column * 80 + 78, 0])
        for row, names in enumerate(
            (
                ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'),
                ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
        )
        for column, name in enumerate(names)
    }
    assert corner == greys


def test_boxes_go_into_the_cameras_that_see_them():
    ahead = Layers(boxes_M9=np.array([[15, 0, 1.5, 4, 2, 1.5, 0, 0, 0]], np.float32), labels_M=np.array([0]))
    changed = (draw_cameras(make_rig(), ahead, width_px=80) != draw_cameras(make_rig(), width_px=80)).any(-1)
    assert changed[:40, 80:160].any(), 'the front camera sees it'
    assert not changed[40:].any(), 'the back cameras do not'


def test_a_rig_with_some_cameras_leaves_grey_places():
    sheet = draw_cameras(make_rig(('CAM_FRONT', 'CAM_BACK')), width_px=80)
    assert sheet.shape == (80, 240, 3) and (sheet[:40, :80] == 60).all() and (sheet[38, 158] == 20).all()


def test_other_names_stand_in_one_row():
    assert draw_cameras(make_rig(('left', 'right')), width_px=80).shape == (40, 160, 3)


def test_enlarging_keeps_what_a_pixel_shows():
    rig = make_rig(('CAM_FRONT',))
    twice = enlarged(rig, 160)
    point = np.array([3.0, 1.0, 10.0])
    old, new = (r.K_N33[0] @ point / point[2] for r in (rig, twice))
    np.testing.assert_allclose(new[:2] + 0.5, 2 * (old[:2] + 0.5))
    assert twice.image_size_hw == (80, 160)


# ----------------------------------------------------------------------------------------------------------------
# sheet

def test_the_sheet_puts_answer_beside_truth():
    answer, truth = layers_of_output(make_output()), layers_of_truth(make_annotations())
    both, alone = draw_frame(make_sample(), answer, truth), draw_frame(make_sample(), answer, None)
    assert both.shape[1] == 2 * alone.shape[1] == 2400  # each: the view from above and the occupancy, 600 px
    assert both.dtype == np.uint8 and both.shape[0] > 624


@pytest.mark.parametrize('answer', [layers_of_output(make_output()), None])
@pytest.mark.parametrize(
    'sample',
    [make_sample(), make_sample(lidar=None), make_sample(camera=None), make_sample(camera=None, lidar=None)],
    ids=['all', 'no lidar', 'no camera', 'nothing'])
def test_a_sheet_of_whatever_there_is(sample, answer):
    sheet = draw_frame(sample, answer, None, title='scene')
    assert sheet.ndim == 3 and sheet.shape[2] == 3 and sheet.dtype == np.uint8 and min(sheet.shape[:2]) >= 44


def test_older_sweeps_are_not_drawn():
    points = np.array([[10.0, 5, 0, 1, 1, 0], [15, -5, 0, 1, 1, 0.05]], np.float32)
    one = make_sample(camera=None, lidar=LidarPoints(points[:1]))
    np.testing.assert_array_equal(draw_frame(make_sample(camera=None, lidar=LidarPoints(points)), None, None),
                                  draw_frame(one, None, None))


def test_nothing_that_is_drawn_is_changed():
    sample, layers = make_sample(), layers_of_output(make_output())
    before = sample.camera.images_NHW3.copy(), layers.boxes_M9.copy(), layers.semantics_XYZ.copy()
    draw_frame(sample, layers, layers)
    for old, new in zip(
        before, (sample.camera.images_NHW3, layers.boxes_M9, layers.semantics_XYZ), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_the_legend_names_every_colour_at_any_width():
    for width in (700, 1200, 2400):
        legend = draw_legend(width)
        assert legend.shape[1] == width
    for colours in (palette.DETECTION, palette.MAP, palette.LANES):
        for name, colour in colours.items():
            assert len(painted(legend, colour)) > 50, name


def test_a_title_stands_above():
    image = np.zeros((10, 300, 3), np.uint8)
    with_title = titled(image, 'words')
    assert with_title.shape == (34, 300, 3) and (with_title[24:] == 0).all() and (with_title[:24] < 200).any()
