"""The interactive page without a browser: what it holds, how large it is, what it refuses."""
from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from perception.core.contracts import NUSCENES_CLASSES, DetectionClasses, LidarPoints
from perception.core.lens import Distortion
from perception.visualization.detection import DetectionLayer
from perception.visualization.pages import library
from perception.visualization.pages.cameras import camera_records
from perception.visualization.pages.viewer import MOST_POINTS, ViewerWriter
from tests.visualization.frames import make_rig, make_sample
from tests.visualization.pages.frames import EVIL, element, make_frames, write_page
from tests.visualization.pages.test_packing import unpack, unpack_points

pytest.importorskip('trimesh', reason='the [viewer] extra is not installed: pip install -e ".[viewer]"')


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp('page'), make_frames()).read_text(encoding='utf-8')


def test_the_page_names_its_frames_sources_and_layers(page):
    facts = json.loads(element(page, 'page'))
    assert [frame['time_s'] for frame in facts['frames']] == [0, 0.5, 1]
    assert facts['sources'] == ['prediction', 'other prediction', 'truth']
    assert {layer['name']: layer['kind'] for layer in facts['layers']} == {
        'map': 'cells', 'lanes': 'lines', 'boxes': 'boxes', 'occupancy': 'voxels', 'tracks': 'trails'}
    classes = {layer['name']: layer['classes'] for layer in facts['layers']}
    assert classes['boxes'][0] == ['car', [255, 127, 0]] and len(classes['occupancy']) == 17


def test_a_frame_holds_what_every_source_says_low_scores_too(page):
    record = json.loads(element(page, 'frame-data-2'))
    boxes = {source: layers['boxes'] for source, layers in record['sources'].items()}
    assert boxes['prediction']['scores'] == [0.9, 0.2] and boxes['truth']['scores'] is None
    assert boxes['other prediction']['items'] == [[20, 10, 1, 4, 2, 1.5, 0, 0, 0]]

    voxels = record['sources']['truth']['occupancy']
    grid = unpack(voxels['packed']).reshape(voxels['shape'])
    assert np.argwhere(grid != 255).tolist() == [[100, 100, 3]]
    assert record['sources']['prediction']['tracks']['items'][0]['id'] == 17
    # of the LiDAR the newest sweep
    np.testing.assert_allclose(unpack_points(record['points']), [[10, 5, 0], [15, -5, 0]])


def test_the_page_needs_nothing_beside_it_and_runs_its_own_scripts_alone(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1)
    scripts = re.findall(r'<script>(.*?)</script>', page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(scripts) == 6 and 'SPDX-License-Identifier: MIT' in scripts[0]
    assert policy.endswith('script-src ' + ' '.join(f"'sha256-{text}'" for text in hashes))
    assert policy.startswith("default-src 'none'; img-src data: blob:;")
    assert not re.search(r'(?:src|href)="', page.replace(scripts[0], ''))


class Tags(HTMLParser):
    """Counts the elements of a page, and keeps what stands in the title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.title = ''
        self._open = ''
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.title += data if self._open == 'title' else ''


def test_words_from_files_are_words(page, tmp_path):
    frames = [replace(frame, name=EVIL) for frame in make_frames(scene=EVIL)]
    rig = make_rig((EVIL,))
    frames = [replace(frame, sample=replace(frame.sample, camera=rig)) for frame in frames]
    evil = write_page(tmp_path, frames, EVIL).read_text(encoding='utf-8')

    assert Tags(evil).count == Tags(page).count and EVIL not in evil
    assert Tags(evil).title.strip() == EVIL
    assert json.loads(element(evil, 'page'))['frames'][0]['scene'] == EVIL
    assert json.loads(element(evil, 'frame-data-0'))['cameras'][0]['name'] == EVIL


def test_a_scene_of_forty_frames_with_many_points_and_voxels_stays_small(tmp_path):
    """As large as a real one: 35,000 points on walls and ground, images and grids of its size."""
    turn = np.repeat(np.linspace(0, 2 * np.pi, 1100), 32)[:35_000]
    far = np.tile(np.linspace(4, 50, 32), 1100)[:35_000] * (1 + 0.1 * np.sin(9 * turn))
    noise = np.random.default_rng(0).normal(0, 0.02, 35_000)
    points = np.zeros((35_000, 6), np.float32)
    points[:, :3] = np.stack([far * np.cos(turn), far * np.sin(turn), noise], 1)

    frame, = make_frames(1)
    sample = replace(make_sample(camera=make_rig(size_hw=(225, 400))), lidar=LidarPoints(points))
    path = write_page(tmp_path, [replace(frame, sample=sample)])
    library_bytes = len(library.three_js())
    assert (path.stat().st_size - library_bytes) * 40 + library_bytes < 12e6


def test_more_points_than_the_page_takes_are_thinned_evenly(tmp_path):
    points = np.zeros((2 * MOST_POINTS + 1, 6), np.float32)
    points[:, 0] = np.arange(len(points)) % 100
    frame, = make_frames(1)
    sample = replace(frame.sample, lidar=LidarPoints(points))
    page = write_page(tmp_path, [replace(frame, sample=sample)]).read_text()
    kept = unpack_points(json.loads(element(page, 'frame-data-0'))['points'])
    np.testing.assert_allclose(kept[:, 0], points[::3, 0])


def test_a_frame_without_sensors_or_sources_is_a_frame(tmp_path):
    frame, = make_frames(1)
    bare = replace(frame, sample=make_sample(camera=None, lidar=None), sources={})
    page = write_page(tmp_path, [bare]).read_text()
    assert json.loads(element(page, 'frame-data-0')) == {'sources': {}, 'points': None, 'cameras': []}


def test_a_page_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='no frame to show'):
        ViewerWriter('demo').write(tmp_path / 'viewer.html')
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    library.three_js.cache_clear()
    monkeypatch.setitem(sys.modules, 'trimesh', None)
    monkeypatch.setattr(library, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'perception\[viewer\]'):
        ViewerWriter('demo')


@pytest.mark.parametrize('content', [None, b'<html><script>other()</script></html>'])
def test_a_trimesh_without_the_library_is_named(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / 'resources' / 'templates').mkdir(parents=True)
        with zipfile.ZipFile(tmp_path / 'resources' / 'templates' / 'viewer.zip', 'w') as archive:
            archive.writestr('viewer.html.template', content)
    spec = ModuleSpec('trimesh', None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    library.three_js.cache_clear()
    monkeypatch.setattr(library, 'find_spec', lambda name: spec)
    with pytest.raises(ImportError, match=r'viewer\.zip: expected three\.js.*perception\[viewer\]'):
        library.three_js()


def test_cameras_stand_from_left_to_right_and_absent_ones_are_left_out():
    rig = make_rig()
    present = rig.present_N.copy()
    present[0] = False
    names = [record['name'] for record in camera_records(replace(rig, present_N=present), 40)]
    assert names == [
        'CAM_BACK_LEFT', 'CAM_FRONT_LEFT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK']


def test_a_narrower_image_has_its_own_intrinsics():
    record = camera_records(make_rig(size_hw=(40, 80)), 40)[0]
    assert record['size'] == [20, 40] and base64.b64decode(record['image']).startswith(b'\xff\xd8')
    # the middle of the image stays the middle
    assert record['K'] == [24, 0, 19.5, 0, 24, 9.5, 0, 0, 1]


def test_a_lens_goes_along_and_a_pinhole_has_none():
    rig = make_rig()
    fisheye = Distortion('kannala_brandt', (0.05, -0.01, 0.003, -0.0005))
    lenses = (fisheye, Distortion('brown_conrady', (0, 0, 0, 0)), *[None] * 4)
    records = {one['name']: one['lens'] for one in camera_records(replace(rig, distortions=lenses), 40)}
    front = records['CAM_FRONT']
    assert front['code'] == 2 and front['k'][:4] == [0.05, -0.01, 0.003, -0.0005]
    assert front['limit'] == pytest.approx(fisheye.field_rad)
    assert {name for name, lens in records.items() if lens['code'] == 0} == set(rig.names) - {'CAM_FRONT'}


def test_sources_with_other_classes_are_not_compared_label_by_label():
    frame, = make_frames(1)
    box, label = np.zeros((1, 9), np.float32), np.zeros(1, int)
    classes = DetectionClasses(NUSCENES_CLASSES.classes[:2])
    other = replace(frame, sources={'truth': (DetectionLayer(box, label, classes=classes),)})
    writer = ViewerWriter('demo')
    writer.add(frame)
    with pytest.raises(ValueError, match=r"layer boxes: expected one list of classes.*\['car', 'truck'\]$"):
        writer.add(other)
