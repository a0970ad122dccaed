"""The interactive page in a real browser, without a screen or a GPU: `make test-full`, PERCEPTION_PAGES=1."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.core.lens import Distortion
from perception.core.lens.projection import lens_project
from perception.visualization.pages.cameras import lens_record
from tests.visualization.pages.browser import Browser, find_browser
from tests.visualization.pages.frames import EVIL, make_frames, write_page

pytest.importorskip('trimesh', reason='the [viewer] extra is not installed: pip install -e ".[viewer]"')
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get('PERCEPTION_PAGES'), reason='a browser takes seconds: set PERCEPTION_PAGES=1'),
    pytest.mark.skipif(
        find_browser() is None, reason='no Chromium: install one, or name it in PERCEPTION_BROWSER')]

READY = 'document.documentElement.dataset.ready'
OPENS_IN_S = 5.0


@pytest.fixture(scope='module')
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The page of three frames with hostile words in it, drawn once."""
    folder = tmp_path_factory.mktemp('browser')
    frames = [replace(frame, name=f'{i} {EVIL}') for i, frame in enumerate(make_frames(scene=EVIL))]
    page = write_page(folder, frames, EVIL)
    with Browser(folder / 'profile') as browser:
        browser.open(page)
        browser.wait(READY, 60)
        browser.wait('view.drawn > 0', 60)
        yield browser


@pytest.fixture
def page(opened: Browser) -> Iterator[Browser]:
    """The page as it is at first; afterwards it must not have said a word of error."""
    opened.evaluate('''play(false), document.querySelectorAll('[type=checkbox]').forEach((box) => {
        const on = box.id !== 'only-differences' && box.parentElement.dataset.layer !== 'occupancy';
        if (box.checked !== on && !box.disabled) box.click();
    })''')
    choose(opened, 'shown', 'prediction')
    choose(opened, 'against', '')
    threshold(opened, 0.3)
    opened.evaluate('show(0)')
    yield opened
    assert opened.errors == []


def names(page: Browser) -> list[str]:
    """The names that are written above boxes."""
    return page.evaluate('view.labels.map((label) => label.text)')


def choose(page: Browser, element: str, value: str) -> None:
    page.evaluate(f"at('{element}').value = '{value}', at('{element}').dispatchEvent(new Event('change'))")


def threshold(page: Browser, score: float) -> None:
    page.evaluate(f"at('score').value = {score}, at('score').dispatchEvent(new Event('input'))")


def switch(page: Browser, selector: str) -> None:
    page.evaluate(f"document.querySelector('{selector} input').click()")


def corners(page: Browser, group: str) -> int:
    """How many corners the objects of a group have."""
    counts = "children.map((one) => one.geometry.attributes.position.count)"
    return sum(page.evaluate(f"view.groups['{group}'].{counts}"))


def picture(page: Browser, path: Path) -> np.ndarray:
    """The page as RGB."""
    page.evaluate('new Promise((done) => { view.draw(); requestAnimationFrame(() => done(1)); })')
    return cv2.imread(str(page.picture(path)))[..., ::-1]


def test_it_fetches_nothing_and_shows_words_as_words(page):
    assert all(address.startswith(('file:', 'data:')) for address in page.requests)
    assert page.evaluate("document.querySelector('h1').textContent") == EVIL
    assert page.evaluate("at('frame-name').textContent") == f'{EVIL} 0 {EVIL}'
    assert page.evaluate("document.querySelectorAll('img').length") == 0


def test_cars_cameras_and_road_are_seen(page, tmp_path):
    image = picture(page, tmp_path / 'page.png').astype(int)
    view, strip = image[60:700, 230:], image[740:840, 230:]
    orange = (view[..., 0] - view[..., 2] > 60).sum()
    road = (np.abs(view - [184, 203, 222]).max(-1) < 12).sum()
    assert orange > 300 and road > 300
    assert (strip.std((0, 1)) > 5).all(), 'six images, each of its own grey'
    assert page.evaluate("at('strip').children.length") == 6


def test_the_slider_the_keys_and_the_address_choose_the_frame(page):
    page.evaluate("at('time').value = 2, at('time').dispatchEvent(new Event('input'))")
    page.wait('state.frame === 2')
    assert page.evaluate("at('clock').textContent") == '3 of 3, 1.0 s'
    assert page.evaluate('location.hash') == '#frame-2'

    page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}))")
    page.wait('state.frame === 1')
    page.evaluate("location.hash = '#frame-0'")
    page.wait('state.frame === 0')


def test_it_plays_round_and_round_and_stops(page):
    choose(page, 'speed', '4')
    page.evaluate("window.seen = new Set(), window.watch = setInterval(() => seen.add(state.frame), 5)")
    page.evaluate("at('play').click()")
    assert page.evaluate("at('play').textContent") == 'pause'
    page.wait('seen.size === 3', 60)
    page.evaluate("at('play').click(), clearInterval(watch)")
    assert page.evaluate('state.playing') is False


def test_a_play_that_was_stopped_does_not_go_on_beside_the_next(page):
    """Stopped and begun again at once, it would have played twice as fast."""
    page.evaluate("play(true), play(false), play(true), window.asked = state.asked, step(state.round - 1)")
    assert page.evaluate('state.asked === asked && state.playing')
    page.evaluate('play(false)')


def test_the_threshold_lets_boxes_through_by_their_score(page):
    assert names(page) == ['car #17 0.90']
    threshold(page, 0.1)
    assert names(page) == ['car #17 0.90', 'pedestrian 2 0.20']
    threshold(page, 0.95)
    assert names(page) == []


def test_layers_and_classes_are_switched_off_and_on(page):
    assert corners(page, 'boxes') > 0 and corners(page, 'occupancy') == 0 and corners(page, 'points') == 2
    switch(page, '[data-layer=occupancy]')
    # ten by ten by three voxels: above and on four sides, none from below
    assert corners(page, 'occupancy') == 4 * (100 + 4 * 30)
    switch(page, '[data-class="occupancy car"]')
    assert corners(page, 'occupancy') == 0
    switch(page, '[data-class="occupancy car"]')
    assert corners(page, 'occupancy') > 0

    switch(page, '[data-layer=points]')
    assert corners(page, 'points') == 0
    switch(page, '[data-class="boxes car"]')
    assert names(page) == []
    switch(page, '[data-class="boxes car"]')
    assert names(page) == ['car #17 0.90']


def test_the_truth_has_no_scores(page):
    choose(page, 'shown', 'truth')
    threshold(page, 1)
    assert names(page) == ['car 1', 'pedestrian 2']


def test_prediction_and_another_model_are_compared(page):
    threshold(page, 0.1)
    choose(page, 'against', 'other prediction')
    verdict = page.evaluate("at('verdict').textContent")
    assert 'boxes: 1 in both, 1 only in prediction, 0 only in other prediction' in verdict
    assert 'lanes: 2 in both' in verdict

    page.evaluate("at('only-differences').click()")
    assert len(names(page)) == 1 and corners(page, 'lanes') == 0
    choose(page, 'shown', 'other prediction')
    choose(page, 'against', 'prediction')
    assert '1 only in prediction' in page.evaluate("at('verdict').textContent")


def test_voxels_that_differ_from_the_truth_have_their_own_colours(page):
    switch(page, '[data-layer=occupancy]')
    choose(page, 'against', 'truth')
    voxels = 'Array.from({length: 640000}, (_, i) => i).map(chosen().occupancy.colourAt)'
    colours = page.evaluate(f'[...new Set({voxels}.map(String))]')
    # the one voxel of the truth is predicted too, and 299 others
    assert set(colours) == {'null', '0,120,255', '150,156,164'}


LENSES = {
    'pinhole': None,
    'brown': Distortion('brown_conrady', (-0.3, 0.1, 0.002, -0.001, 0.01, 0.1, 0.02, 0.001)),
    'fisheye': Distortion('kannala_brandt', (0.05, -0.01, 0.003, -0.0005))}


@pytest.mark.parametrize('name', LENSES)
def test_the_page_projects_through_a_lens_as_we_do(page, name):
    lens = LENSES[name]
    K = np.array([[300.0, 2, 200], [0, 310, 110], [0, 0, 1]])
    points = np.random.default_rng(1).uniform([-4, -3, 1], [4, 3, 8], (40, 3))
    wanted, depth = lens_project(K, points, lens)
    camera = json.dumps({'K': K.ravel().tolist(), 'lens': lens_record(lens)})
    found = page.evaluate(f'{json.dumps(points.tolist())}.map((point) => Lens.pixel({camera}, point))')
    assert [pixel is not None for pixel in found] == (depth > 0).tolist()
    seen = depth > 0
    assert seen.sum() > 20
    np.testing.assert_allclose([pixel for pixel in found if pixel], wanted[seen], atol=1e-6)


def test_a_browser_without_webgl_still_shows_the_cameras(tmp_path):
    page = write_page(tmp_path, make_frames(1))
    with Browser(tmp_path / 'profile', webgl=False) as browser:
        browser.open(page)
        browser.wait(READY, 60)
        assert 'no WebGL' in browser.evaluate("at('notice').textContent")
        assert browser.evaluate("at('strip').children.length") == 6


def test_a_page_of_forty_frames_opens_in_five_seconds(tmp_path):
    """Reading, unpacking and drawing the first frame, by the page's own clock."""
    page = write_page(tmp_path, make_frames(40))
    with Browser(tmp_path / 'profile') as browser:
        browser.open(page)
        browser.wait(READY, 60)
        browser.wait('view.drawn > 0', 60)
        took_s = browser.evaluate('view.drawnAt') / 1000
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        assert took_s < OPENS_IN_S * max(1.0, load)
