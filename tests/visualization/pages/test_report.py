"""The static page: scores, frames that links can point to, words from files as words."""
from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from perception.visualization.pages.report import anchor_names, write_report


@pytest.fixture
def picture() -> np.ndarray:
    """Red left, black right."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, :40, 0] = 255
    return image


def test_the_report_needs_nothing_beside_it(tmp_path, picture):
    page = write_report(tmp_path / 'out' / 'report.html', 'demo', {'frames': 2, 'NDS': 0.123456},
                        [('first', picture), ('second', picture[:, ::-1])]).read_text(encoding='utf-8')
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(images) == 2 and len(re.findall(r'<figcaption>', page)) == 2
    assert base64.b64decode(images[0]).startswith(b'\xff\xd8') and images[0] != images[1]
    assert '0.1235' in page and '<td>2</td>' in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page), 'something is fetched from elsewhere'
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['report.html']


def test_words_in_the_report_are_words(tmp_path, picture):
    page = write_report(
        tmp_path / 'r.html', '<script>x</script>', {'<b>': '&'}, [('<i>', picture)]
    ).read_text()
    assert '<script>' not in page and '<b>' not in page and '<i>' not in page
    assert '&lt;script&gt;' in page and '&amp;' in page


def test_frames_can_be_linked(tmp_path, picture):
    pictures = [('scene-0103, frame 7', picture), ('scene-0103, frame 8', picture)]
    page = write_report(tmp_path / 'r.html', 'demo', {}, pictures).read_text()
    assert re.findall(r'<figure id="([^"]+)">', page) == ['scene-0103-frame-7', 'scene-0103-frame-8']
    assert page.count('href="#scene-0103-frame-7"') == 2  # in the list, and at the picture


def test_names_of_frames_are_each_there_once_and_harmless():
    captions = ['a b', 'A, B', 'a--b', '"><script>', '日本', 'a b']
    assert anchor_names(captions) == ['a-b', 'a-b--2', 'a-b--3', 'script', 'frame', 'a-b--4']


def test_each_frame_leads_to_the_same_one_in_the_viewer(tmp_path, picture):
    pictures = [('first', picture), ('second', picture)]
    page = write_report(tmp_path / 'r.html', 'demo', {}, pictures, viewer='viewer.html').read_text()
    assert re.findall(r'href="(viewer[^"]*)"', page) == ['viewer.html#frame-0', 'viewer.html#frame-1']


def test_scores_stand_in_a_table_with_a_head(tmp_path, picture):
    page = write_report(tmp_path / 'r.html', 'demo', {'NDS': 0.5, 'mAP': float('nan')}, []).read_text()
    rows = re.findall(r'<tr><t[hd]>(.*?)</t[hd]><t[hd]>(.*?)</t[hd]></tr>', page)
    assert rows == [('score', 'value'), ('NDS', '0.5000'), ('mAP', '-')]
