"""The official map API reads the invented cities and finds in them what the generator put there."""
import json

import numpy as np
import pytest

from perception.world.city.city import make_city
from perception.world.scene.curves import Curve
from perception.world.writing.basemap import city_basemap
from perception.world.writing.map_expansion import arcline_path, city_map_expansion

LOCATION = 'singapore-queenstown'


@pytest.fixture(scope='module')
def city():
    return make_city(LOCATION, 0)


@pytest.fixture(scope='module')
def nusc_map(city, tmp_path_factory):
    api = pytest.importorskip('nuscenes.map_expansion.map_api')
    root = tmp_path_factory.mktemp('maps')
    folder = root / 'maps' / 'expansion'
    folder.mkdir(parents=True)
    (folder / f'{LOCATION}.json').write_text(json.dumps(city_map_expansion(city)))
    return api.NuScenesMap(str(root), LOCATION)


def test_arc_pieces_end_where_the_next_begin():
    angle = np.linspace(0, np.pi / 2, 200)
    pieces = arcline_path(Curve(20 * np.column_stack([np.sin(angle), 1 - np.cos(angle)])))
    assert all(piece['shape'] == 'LSL' for piece in pieces)
    np.testing.assert_allclose([piece['radius'] for piece in pieces[1:-1]], 20.0, rtol=0.02)
    assert sum(sum(piece['segment_length']) for piece in pieces) == pytest.approx(10 * np.pi, rel=1e-3)
    for piece, follower in zip(pieces[:-1], pieces[1:], strict=True):
        np.testing.assert_allclose(piece['end_pose'][:2], follower['start_pose'][:2])
        assert abs(piece['end_pose'][2] - follower['start_pose'][2]) < 0.02


def test_devkit_centre_lines_follow_ours(city, nusc_map):
    tokens = [row['token'] for row in nusc_map.lane] + [row['token'] for row in nusc_map.lane_connector]
    lines = nusc_map.discretize_lanes(tokens, 1.0)
    assert len(tokens) == len(city.network.lanes)
    for lane, token in zip(city.network.lanes, tokens, strict=True):
        dense = lane.curve.at(np.linspace(0, lane.curve.length_m, 400))[0]
        places = np.array(lines[token])[:, :2]
        apart = np.linalg.norm(places[:, None] - dense[None], axis=2).min(axis=1)
        assert apart.max() < 0.3
        assert nusc_map.get_outgoing_lane_ids(token) == [tokens[index] for index in lane.outgoing]


def test_devkit_mask_agrees_with_the_ground_raster(city, nusc_map):
    from perception.world.scene.materials import LIDARSEG_DRIVEABLE, MATERIALS

    x, y = city.network.nodes_N2[5]
    mask = nusc_map.get_map_mask(
        (x, y, 80, 80), 0.0, ['drivable_area', 'ped_crossing', 'walkway'], (400, 400)
    )
    cells = (np.arange(400) + 0.5) * 0.2 - 40.0
    places = np.stack(np.meshgrid(x + cells, y + cells), axis=-1)
    lidarseg_of_material = np.array([material.lidarseg for material in MATERIALS])
    drivable = lidarseg_of_material[city.ground.material_at(places)] == LIDARSEG_DRIVEABLE
    assert (mask[0].astype(bool) == drivable).mean() > 0.985
    assert 0.1 < drivable.mean() < 0.8


def test_records_refer_to_each_other(nusc_map):
    tokens = {row['token'] for row in nusc_map.road_block}
    for line in nusc_map.stop_line:
        assert line['road_block_token'] in tokens
        assert line['cue'][0]['traffic_light_type'] == 'VERTICAL'
    for lane in nusc_map.lane:
        assert lane['left_lane_divider_segment_nodes'] and lane['right_lane_divider_segment_nodes']
    x, y = nusc_map.discretize_centerlines(2.0)[0][5][:2]
    assert nusc_map.record_on_point(x, y, 'drivable_area')
    assert nusc_map.get_closest_lane(x, y, radius=5)


def test_basemap_has_north_up(city):
    picture = city_basemap(city)
    rows, columns = picture.shape
    assert (columns, rows) == tuple(int(round(edge * 10)) for edge in city.canvas_edge)
    lane = next(lane for lane in city.network.lanes if not lane.is_connector)
    x, y = lane.curve.points_K2[10]
    assert picture[rows - 1 - int(y / 0.1), int(x / 0.1)] == 255
    assert set(np.unique(picture)) == {0, 255}
    assert picture[0, 0] == 0
