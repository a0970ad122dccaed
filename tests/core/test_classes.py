"""Sets of detection classes: read from plain values, refused with the field's name, the ten unchanged."""
from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from perception.core import protocols as p
from perception.core.config import read_config
from perception.core.contracts import NUSCENES_CLASSES, BoxLabels, DetectionClasses, MapLayers
from perception.core.raster import with_vehicles

TWO = {
    'road_user': {'categories': ['vehicle.car', 'vehicle.bus.bendy', 'human.pedestrian.adult'],
                  'attributes': ['vehicle', 'pedestrian'], 'range_m': 60},
    'sign': {'categories': ['sign.stop'], 'heading': 'half', 'moves': False, 'tracked': False}}


def test_the_ten_are_nuscenes() -> None:
    ten = NUSCENES_CLASSES
    assert ten.names == p.DETECTION_CLASSES and ten.tracked == p.TRACKING_CLASSES and ten.is_nuscenes
    assert [c.range_m for c in ten.classes] == [*p.DETECTION_RANGES_M]
    assert [ten.names[i] for i in np.flatnonzero(ten.is_half_turn)] == [*p.HALF_TURN_CLASSES]
    assert [ten.names[i] for i in np.flatnonzero(ten.is_two_wheeled)] == ['motorcycle', 'bicycle']
    others = [ten.names[i] for i in np.flatnonzero(~ten.is_vehicle)]
    assert others == ['pedestrian', 'traffic_cone', 'barrier']
    assert ten.valid_attributes[0].tolist() == [False] * 5 + [True] * 3
    assert not ten.valid_attributes[8:].any()


def test_labels_of_categories() -> None:
    two = DetectionClasses.of(TWO)
    names = ('vehicle.car', 'human.pedestrian.adult', 'sign.stop', 'vehicle.truck', 'animal')
    assert [two.label(name) for name in names] == [0, 0, 1, -1, -1]

    # infos of other make have the ten classes themselves: one whose categories stay together is clear
    assert two.label('car') == 0 and two.label('truck') == -1
    with pytest.raises(ValueError, match="boxes of 'bus' may be of several classes"):
        two.label('bus')


def test_a_class_of_the_ten_stands_for_its_categories() -> None:
    classes = DetectionClasses.of({'long': {'categories': ['bus', 'trailer']}})
    assert [classes.label(n) for n in ('vehicle.bus.rigid', 'vehicle.trailer', 'bus', 'car')] == [0, 0, 0, -1]


def test_plain_values_and_processes_give_them_back() -> None:
    two = DetectionClasses.of(TWO)
    assert DetectionClasses.of(json.loads(json.dumps(two.as_data()))) == two
    assert pickle.loads(pickle.dumps(two)) == two and DetectionClasses.from_text(two.to_text()) == two
    assert pickle.loads(pickle.dumps(NUSCENES_CLASSES)) is NUSCENES_CLASSES
    assert DetectionClasses.of(NUSCENES_CLASSES.as_data()) is NUSCENES_CLASSES


@pytest.mark.parametrize('changes, message', [
    ({'rangem': 3}, r"d.road_user: unknown field 'rangem'; did you mean 'range_m'\?"),
    ({'range_m': -3}, r'd.road_user.range_m: expected metres above 0, found -3'),
    ({'attributes': ['vehicles']}, r"d.road_user.attributes: .* found 'vehicles'; did you mean 'vehicle'\?"),
    ({'heading': 'pi'}, r"d.road_user.heading: expected one of full, half, none, found 'pi'"),
    ({'moves': 1}, r'd.road_user.moves: expected True or False, found 1'),
    ({'categories': 'vehicle.car'}, r"d.road_user.categories: expected a list of names, found 'vehicle.car'"),
    ({'categories': []}, r'd.road_user.categories: expected at least one'),
    ({'categories': ['sign.stop']}, r"d: sign.categories: 'sign.stop' is in road_user too"),
    ({'colour': (1, 2, 256)}, r'd.road_user.colour: expected red, green and blue of 0 to 255')])
def test_a_wrong_field_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionClasses.of({**TWO, 'road_user': {**TWO['road_user'], **changes}}, 'd')


@pytest.mark.parametrize('given, message', [
    ({}, '1 to 100 classes, found 0'), (['car'], 'expected {name: fields of a class}'),
    ({'a b': TWO['sign']}, "found 'a b'"), ({'all': TWO['sign']}, "found 'all'"),
    ({'a': {}}, 'a.categories: missing'), ({'a': 3}, 'a: expected the fields of a class, found 3')])
def test_a_wrong_set_is_refused(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionClasses.of(given)


def test_an_unknown_category_is_named_with_the_nearest_that_is_known() -> None:
    typo = DetectionClasses.of({'car': {'categories': ['vehicle.car', 'vehicle.tuck']}})
    with pytest.raises(ValueError, match=r"detection_classes.car.categories\[1\]: found 'vehicle.tuck', "
                                         r"expected .* or of here; did you mean 'vehicle.truck'\?"):
        typo.check_categories((), 'here')
    DetectionClasses.of(TWO).check_categories(['sign.stop'], 'here')


def test_a_configuration_names_its_file(tmp_path: Path) -> None:
    config = tmp_path / 'wrong.py'
    base = Path(__file__).resolve().parents[2] / 'configs' / 'world' / 'four_classes.py'
    config.write_text(
        f"_base_ = ['{base}']\ndetection_classes = dict(static=dict(heading='left'))\n", encoding='utf-8')
    with pytest.raises(ValueError, match=r'wrong.py: detection_classes.static.heading: .*found .left'):
        read_config(config)


def test_the_maps_vehicles_are_those_with_a_category_of_vehicles() -> None:
    boxes = np.zeros((2, 9), np.float32)
    boxes[:, 3:6] = 2
    none = np.zeros(2, np.int64)
    labels = BoxLabels(
        boxes, np.array([0, 1]), none, none, none, none, classes=DetectionClasses.of(TWO))
    assert len(with_vehicles(MapLayers({}, {}, 50.0), labels).polygons['vehicle']) == 1
    assert labels.select(np.array([True, False])).classes == labels.classes
