"""Frame records: what is packed comes back to the last bit, what does not fit is named."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from perception.core.lens import Distortion
from perception.datasets.reading.records import BoxRecords, CameraRecord, FrameRecord, InfosError
from tests.datasets.reading.frame_records import whole_frame


def through_json(frame: FrameRecord) -> FrameRecord:
    return FrameRecord.from_json(json.loads(json.dumps(frame.to_json(), allow_nan=False)))


def test_a_frame_comes_back_to_the_last_bit() -> None:
    frame = whole_frame()
    again = through_json(frame)
    assert again.to_json() == frame.to_json()
    sensors = [(*record.lidar, *record.cameras.values()) for record in (again, frame)]
    for one, other in zip(*sensors, strict=True):
        np.testing.assert_array_equal(one.ego_T_sensor, other.ego_T_sensor)
        assert one.time_lag_s == other.time_lag_s and one.timestamp_us == other.timestamp_us
    np.testing.assert_array_equal(again.boxes.boxes_M9, frame.boxes.boxes_M9)
    assert again.lidar[1].own_ego_T_sensor is None and isinstance(again.cameras['CAM_BACK'], CameraRecord)


def test_a_lens_comes_back_and_a_pinhole_writes_nothing() -> None:
    frame = whole_frame()
    assert 'distortion' not in frame.to_json()['cameras']['CAM_BACK']
    lens = Distortion('brown_conrady', (-0.3, 0.1, 1e-4, 1 / 3, 0.0))
    camera = replace(frame.cameras['CAM_BACK'], distortion=lens)
    assert through_json(replace(frame, cameras={'CAM_BACK': camera})).cameras['CAM_BACK'].distortion == lens

    content = frame.to_json()
    content['cameras']['CAM_BACK']['distortion'] = {'model': 'equidistant', 'coefficients': [0] * 4}
    with pytest.raises(InfosError, match=r"cameras.CAM_BACK.distortion: .*'kannala_brandt' here"):
        FrameRecord.from_json(content)


def test_what_a_frame_does_not_have_stays_absent() -> None:
    bare = through_json(FrameRecord(token='a', timestamp_us=1, global_T_ego=np.eye(4)))
    assert bare.boxes is None and bare.lidar == () and not bare.cameras and bare.occupancy is None


@pytest.mark.parametrize(('place', 'message'), [
    (('timestamp_us',), "frame: found no field 'timestamp_us'"),
    (('cameras', 'CAM_BACK', 'K'), "cameras.CAM_BACK: found no field 'K', expected K, width_px, height_px"),
    (('lidar', 1, 'token'), r"lidar\[1\]: found no field 'token'"),
    (('boxes', 'visibility'), "boxes: found no field 'visibility'")])
def test_an_absent_field_is_named(place: tuple, message: str) -> None:
    content = whole_frame().to_json()
    part = content
    for key in place[:-1]:
        part = part[key]
    del part[place[-1]]
    with pytest.raises(InfosError, match=message):
        FrameRecord.from_json(content)


def test_a_transform_of_another_length_is_named() -> None:
    content = whole_frame().to_json()
    content['radars']['RADAR_FRONT'][0]['ego_T_sensor'] = [0.0] * 16
    with pytest.raises(InfosError, match=r'radars.RADAR_FRONT\[0\].ego_T_sensor needs 12 numbers, found 16'):
        FrameRecord.from_json(content)


def test_columns_of_another_length_are_named() -> None:
    with pytest.raises(ValueError, match='BoxRecords.attributes: 2 boxes have 1'):
        replace(whole_frame().boxes, attributes=('',))
    assert len(BoxRecords.empty()) == 0
