"""The picture of a frame: every part in its place, prediction beside truth, absent parts leave no trace."""
from __future__ import annotations

import numpy as np
import pytest

from perception.core.contracts import LidarPoints
from perception.core.protocols import CAMERAS
from perception.visualization import layers_of_output, layers_of_truth, palette
from perception.visualization.camera import resize_rig
from perception.visualization.detection import DetectionLayer
from perception.visualization.lanes import LaneLayer
from perception.visualization.panel import draw_bev, draw_cameras, draw_frame, titled
from tests.visualization.frames import (
    BOXES,
    make_annotations,
    make_output,
    make_rig,
    make_sample,
    painted,
)


def test_prediction_and_truth_agree_on_where_objects_are():
    prediction = draw_bev(layers_of_output(make_output()))
    truth = draw_bev(layers_of_truth(make_annotations()))
    for image in (prediction, truth):
        place = painted(image, palette.MAP['drivable_area'])
        # 600 px for 100 m: x in [25, 35] is rows 90 to 150, y in [10, 20] is columns 180 to 240
        assert np.abs(place.min(0) - [90, 180]).max() <= 3 and np.abs(place.max(0) - [150, 240]).max() <= 3


def test_the_view_from_above_has_left_on_the_left():
    image = draw_bev((DetectionLayer(BOXES, np.array([0, 5])),), size_px=400)
    car, walker = painted(image, palette.DETECTION['car']), painted(image, palette.DETECTION['pedestrian'])
    assert image.shape == (400, 400, 3)
    np.testing.assert_allclose(car.mean(0), [400 * 0.3, 400 * 0.4], atol=4)  # 20 m ahead, 10 m left
    np.testing.assert_allclose(walker.mean(0), [400 * 0.7, 400 * 0.6], atol=4)


def test_six_cameras_stand_where_a_driver_expects_them():
    rig = make_rig()
    picture = draw_cameras(rig, width_px=80)
    assert picture.shape == (80, 240, 3)
    greys = {name: 20 * i + 20 for i, name in enumerate(CAMERAS)}
    corner = {
        name: int(picture[row * 40 + 38, column * 80 + 78, 0])
        for row, names in enumerate(
            (
                ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'),
                ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
        )
        for column, name in enumerate(names)
    }
    assert corner == greys


def test_boxes_go_into_the_cameras_that_see_them():
    box = np.array([[15, 0, 1.5, 4, 2, 1.5, 0, 0, 0]], np.float32)
    ahead = (DetectionLayer(box, np.array([0])),)
    changed = (draw_cameras(make_rig(), ahead, width_px=80) != draw_cameras(make_rig(), width_px=80)).any(-1)
    assert changed[:40, 80:160].any(), 'the front camera sees it'
    assert not changed[40:].any(), 'the back cameras do not'


def test_a_rig_with_some_cameras_leaves_grey_places():
    picture = draw_cameras(make_rig(('CAM_FRONT', 'CAM_BACK')), width_px=80)
    assert picture.shape == (80, 240, 3)
    assert (picture[:40, :80] == 60).all() and (picture[38, 158] == 20).all()


def test_other_names_stand_in_one_row():
    assert draw_cameras(make_rig(('left', 'right')), width_px=80).shape == (40, 160, 3)


def test_resizing_keeps_what_a_pixel_shows():
    rig = make_rig(('CAM_FRONT',))
    twice = resize_rig(rig, 160)
    point = np.array([3.0, 1.0, 10.0])
    old, new = (r.K_N33[0] @ point / point[2] for r in (rig, twice))
    np.testing.assert_allclose(new[:2] + 0.5, 2 * (old[:2] + 0.5))
    assert twice.image_size_hw == (80, 160)


def test_prediction_stands_beside_truth():
    prediction, truth = layers_of_output(make_output()), layers_of_truth(make_annotations())
    both, alone = draw_frame(make_sample(), prediction, truth), draw_frame(make_sample(), prediction, None)
    # each: the view from above and the occupancy, 600 px
    assert both.shape[1] == 2 * alone.shape[1] == 2400
    assert both.dtype == np.uint8 and both.shape[0] > 624


@pytest.mark.parametrize('prediction', [layers_of_output(make_output()), None])
@pytest.mark.parametrize(
    'sample',
    [make_sample(), make_sample(lidar=None), make_sample(camera=None), make_sample(camera=None, lidar=None)],
    ids=['all', 'no lidar', 'no camera', 'nothing'])
def test_a_picture_of_whatever_sensors_there_are(sample, prediction):
    picture = draw_frame(sample, prediction, None, title='scene')
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    assert min(picture.shape[:2]) >= 44


def test_older_sweeps_are_not_drawn():
    points = np.array([[10.0, 5, 0, 1, 1, 0], [15, -5, 0, 1, 1, 0.05]], np.float32)
    one = make_sample(camera=None, lidar=LidarPoints(points[:1]))
    np.testing.assert_array_equal(draw_frame(make_sample(camera=None, lidar=LidarPoints(points)), None, None),
                                  draw_frame(one, None, None))


def test_drawing_changes_neither_the_sample_nor_the_layers():
    sample, output = make_sample(), make_output()
    layers = layers_of_output(output)
    arrays = (sample.camera.images_NHW3, output.detection.boxes_M9, output.occupancy.semantics_XYZ)
    before = [array.copy() for array in arrays]
    draw_frame(sample, layers, layers)
    for old, new in zip(before, arrays, strict=True):
        np.testing.assert_array_equal(old, new)


def test_every_panel_has_the_legend_of_what_it_shows():
    prediction = layers_of_output(make_output())
    picture = draw_frame(make_sample(camera=None), prediction, None)
    from_above, occupancy = picture[624:, :600], picture[624:, 600:]
    for colours in (palette.DETECTION, palette.MAP, palette.LANES):
        for name, colour in colours.items():
            assert len(painted(from_above, colour)) > 20, name
    for name, colour in palette.OCCUPANCY.items():
        assert len(painted(occupancy, colour)) > 50, name
    assert not len(painted(occupancy, palette.LANES['boundary'])), 'the occupancy panel shows no lanes'


def test_a_legend_leaves_out_what_the_model_lacks():
    lanes = tuple(layer for layer in layers_of_output(make_output()) if isinstance(layer, LaneLayer))
    picture = draw_frame(make_sample(camera=None), lanes, None)
    assert len(painted(picture[624:], palette.LANES['boundary'])) > 20
    assert not len(painted(picture[624:], palette.DETECTION['car']))


def test_cameras_can_keep_their_own_width():
    sample = make_sample(camera=make_rig(size_hw=(300, 1000)))
    picture = draw_frame(sample, layers_of_output(make_output()), None, camera_width_px=1000)
    assert picture.shape[1] == 3000
    assert (picture[40:90, 400:600] == 120).all(), 'the front left camera is the sixth'


def test_a_title_stands_above():
    image = np.zeros((10, 300, 3), np.uint8)
    with_title = titled(image, 'words')
    assert with_title.shape == (34, 300, 3) and (with_title[24:] == 0).all() and (with_title[:24] < 200).any()
