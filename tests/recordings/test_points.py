"""Point clouds and radar targets are read by their fields, whatever their layout."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from perception.recordings.messages.points import point_columns
from perception.recordings.messages.radar import radar_targets
from perception.recordings.messages.values import BadMessage

CODES = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}
STAMP_NS = 1_700_000_000_250_000_000
HEADER = SimpleNamespace(
    stamp=SimpleNamespace(sec=STAMP_NS // 10 ** 9, nanosec=STAMP_NS % 10 ** 9), frame_id='lidar')


def cloud(columns: dict, order: str = '<', itemsize: int = 40, rows: int = 1, pad: int = 0):
    """A PointCloud2 of (type, values) by name, with holes between fields and behind rows."""
    offset, offsets = 2, []
    for kind, _ in columns.values():
        offsets.append(offset)
        offset += int(kind[1]) + 1
    layout = np.dtype(dict(
        names=list(columns), formats=[order + kind for kind, _ in columns.values()], offsets=offsets,
        itemsize=itemsize))
    count = len(next(iter(columns.values()))[1])
    points = np.full(count * itemsize, 0xEE, np.uint8).view(layout)
    for name, (_, values) in columns.items():
        points[name] = values
    data = np.pad(points.view(np.uint8).reshape(rows, -1), ((0, 0), (0, pad)))
    fields = [
        SimpleNamespace(name=name, offset=at, datatype=CODES[kind], count=1)
        for at, (name, (kind, _)) in zip(offsets, columns.items(), strict=True)]
    return SimpleNamespace(
        __msgtype__='sensor_msgs/msg/PointCloud2', header=HEADER, height=rows, width=count // rows,
        fields=fields, is_bigendian=order == '>', point_step=itemsize, row_step=data.shape[1],
        data=data.ravel())


XYZ = {axis: ('f4', np.arange(4) + k * 10.5) for k, axis in enumerate('xyz')}


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('rows, pad', [(1, 0), (2, 7)])
def test_fields_are_read_at_any_place_in_any_type(order, rows, pad):
    message = cloud(
        {'ring': ('u2', [3, 2, 1, 0]), 'z': ('f8', XYZ['z'][1]), 'intensity': ('u1', [255, 0, 7, 8]),
         'x': XYZ['x'], 'y': XYZ['y'], 't': ('u4', [0, 10 ** 7, 5 * 10 ** 7, 10 ** 8])}, order, 44, rows, pad)
    found = point_columns(message)
    np.testing.assert_allclose(found.xyz_P3, np.stack([values for _, values in XYZ.values()], 1))
    assert found.ring_P.tolist() == [3, 2, 1, 0] and found.intensity_P.tolist() == [255, 0, 7, 8]
    np.testing.assert_allclose(found.time_s_P, [0, 0.01, 0.05, 0.1])


@pytest.mark.parametrize('name, kind, values', [
    ('time', 'f4', [-0.1, -0.05, -0.01, 0.0]), ('timestamp', 'f8', np.array([-1, -0.5, -0.1, 0]) / 10
     + STAMP_NS * 1e-9), ('t', 'i4', [-10 ** 8, -5 * 10 ** 7, -10 ** 7, 0]),
    ('timestamp', 'f8', STAMP_NS + np.array([-10, -5, -1, 0]) * 1e7)])
def test_times_of_points_count_from_the_messages_own(name, kind, values):
    found = point_columns(cloud({**XYZ, name: (kind, values)}))
    np.testing.assert_allclose(found.time_s_P, [-0.1, -0.05, -0.01, 0], atol=1e-6)


def test_what_is_not_there_is_zero_and_what_is_not_finite_is_left_out():
    x = np.array([0, np.nan, 2, np.inf])
    found = point_columns(cloud({**XYZ, 'x': ('f4', x)}))
    assert found.xyz_P3[:, 0].tolist() == [0, 2] and found.dropped == 2 and found.time_s_P is None
    assert found.intensity_P.tolist() == found.ring_P.tolist() == [0, 0]


def test_other_names_are_given_by_the_mapping():
    message = cloud({**XYZ, 'power': ('f4', [1, 2, 3, 4]), 'speed': ('f4', [5, 6, 7, 8])})
    found = point_columns(message, {'intensity': 'power', 'v': 'speed'})
    assert found.intensity_P.tolist() == [1, 2, 3, 4] and found.extra['v'].tolist() == [5, 6, 7, 8]
    with pytest.raises(BadMessage, match="no 'strength' for intensity, there are x, y, z, power"):
        point_columns(message, {'intensity': 'strength'})


@pytest.mark.parametrize('changes, words', [
    ({'point_step': 12}, 'lies at byte'), ({'width': 5}, 'expected 200'), ({'row_step': 10}, 'rows of 10'),
    ({'height': 2 ** 31, 'width': 2 ** 31}, 'expected at most 20000000'), ({'fields': []}, 'no field')])
def test_a_cloud_whose_sizes_do_not_fit_is_refused(changes, words):
    message = cloud(XYZ)
    vars(message).update(changes)
    with pytest.raises(BadMessage, match=words):
        point_columns(message)
    with pytest.raises(BadMessage, match='its times lie'):
        point_columns(cloud({**XYZ, 'time': ('f4', [0, 1, 2, 3])}))
    with pytest.raises(BadMessage, match='expected x, y and z, found x, y'):
        point_columns(cloud({'x': XYZ['x'], 'y': XYZ['y']}))


# -------------------------------------------------------------------- radar

OWN = np.array([10.0, 0.0, 0.0])


def scan(**returns) -> SimpleNamespace:
    return SimpleNamespace(
        __msgtype__='radar_msgs/msg/RadarScan', header=HEADER, returns=[
            SimpleNamespace(range=r, azimuth=a, elevation=e, doppler_velocity=v, amplitude=s)
            for r, a, e, v, s in zip(*returns.values(), strict=True)])


def test_a_scan_gives_places_and_velocities_along_the_rays():
    # a wall ahead comes nearer at the car's own speed; one to the left does not move
    message = scan(r=[20.0, 8.0], a=[0.0, np.pi / 2], e=[0.0, np.pi / 6], v=[-10.0, 0.0], s=[5.0, 6.0])
    targets = radar_targets(message, OWN)
    np.testing.assert_allclose(
        [targets[axis] for axis in 'xyz'], [[20, 0], [0, 8 * np.cos(np.pi / 6)], [0, 4]], atol=1e-6)
    np.testing.assert_allclose([targets['vx'], targets['vy']], [[-10, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose([targets['vx_comp'], targets['vy_comp']], np.zeros((2, 2)), atol=1e-6)
    assert targets['rcs'].tolist() == [5, 6]
    assert set(targets['ambig_state']) == {3} and set(targets['invalid_state']) == {0}


def test_tracks_clouds_and_other_messages_give_the_same():
    place = SimpleNamespace(x=20.0, y=1.0, z=0.5)
    track = SimpleNamespace(position=place, velocity=SimpleNamespace(x=-10.0, y=2.0, z=0.0))
    tracks = SimpleNamespace(__msgtype__='radar_msgs/msg/RadarTracks', tracks=[track])
    own = SimpleNamespace(__msgtype__='ars_40X/msg/ObjectList', objects=[
        SimpleNamespace(at=SimpleNamespace(p=place), moves=track.velocity, rcs=7.0)])
    names = {'list': 'objects', 'x': 'at.p.x', 'y': 'at.p.y', 'z': 'at.p.z', 'vx': 'moves.x', 'vy': 'moves.y'}
    points = cloud({
        'x': ('f4', [20]), 'y': ('f4', [1]), 'z': ('f4', [0.5]), 'vx': ('f4', [-10]), 'vy': ('f4', [2]),
        'snr': ('f4', [7])})

    for message, fields in ((tracks, None), (own, names), (points, {'rcs': 'snr'})):
        target, = radar_targets(message, OWN, fields)
        assert [target[n] for n in ('x', 'y', 'z', 'vx', 'vy', 'vx_comp', 'vy_comp')] == [
            20, 1, 0.5, -10, 2, 0, 2]
    points = cloud({
        'x': ('f4', [20]), 'y': ('f4', [1]), 'vx': ('f4', [0]), 'vy': ('f4', [0]),
        'invalid_state': ('i1', [4]), 'dyn_prop': ('u1', [2])})
    target, = radar_targets(points, OWN)
    assert (target['invalid_state'], target['dyn_prop'], target['ambig_state']) == (4, 2, 3)

    target, = radar_targets(tracks, OWN, compensated=True)
    assert [target[name] for name in ('vx', 'vy', 'vx_comp', 'vy_comp')] == [-20, 2, -10, 2]

    with pytest.raises(BadMessage, match='ars_40X/msg/ObjectList; name its list and fields'):
        radar_targets(own, OWN)
    with pytest.raises(BadMessage, match='no field place'):
        radar_targets(own, OWN, {'list': 'objects', 'x': 'place.x', 'y': 'at.p.y'})
    with pytest.raises(BadMessage, match="no field 'strength'"):
        radar_targets(points, OWN, {'rcs': 'strength'})


def test_targets_need_velocities_and_fields_that_are_numbers():
    """Without velocities every target would seem to drive along with the car."""
    target = SimpleNamespace(at=SimpleNamespace(x=1.0, y=2.0))
    message = SimpleNamespace(__msgtype__='own/msg/List', objects=[target], count=1)
    places = {'list': 'objects', 'x': 'at.x', 'y': 'at.y'}
    for compensated in (False, True):
        with pytest.raises(BadMessage, match='expected the velocities vx and vy, or doppler, found x, y'):
            radar_targets(message, OWN, places, compensated)
    with pytest.raises(BadMessage, match='radar.at: found SimpleNamespace, expected a number'):
        radar_targets(message, OWN, {**places, 'doppler': 'at'})
    with pytest.raises(BadMessage, match='radar.count: found int, expected a list'):
        radar_targets(message, OWN, {**places, 'list': 'count'})


def test_targets_that_are_not_finite_and_none_at_all():
    message = scan(r=[20.0, np.nan], a=[0.0, 0.0], e=[0.0, 0.0], v=[0.0, 0.0], s=[5.0, 6.0])
    assert len(radar_targets(message, OWN)) == 1
    message.returns = []
    assert len(radar_targets(message, OWN)) == 0
