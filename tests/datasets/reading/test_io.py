"""Sensor files: values read right, and every kind of bad file refused with words that help."""
from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.datasets.reading import io
from perception.datasets.reading.io import BadFile, load_image, load_lidar_bin, load_radar_pcd, reduced_K

SIZES = [4, 4, 4, 1, 2, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1]
TYPES = list('FFFIIFFFFFIIIIIIII')


def pcd_bytes(rows: list[dict], **changes: str) -> bytes:
    """A radar PCD file; keyword arguments replace header lines."""
    lines = {
        'VERSION': '0.7', 'FIELDS': ' '.join(io.RADAR_FIELDS), 'SIZE': ' '.join(map(str, SIZES)),
        'TYPE': ' '.join(TYPES), 'COUNT': ' '.join('1' for _ in SIZES), 'WIDTH': str(len(rows)),
        'HEIGHT': '1', 'VIEWPOINT': '0 0 0 1 0 0 0', 'POINTS': str(len(rows)), 'DATA': 'binary', **changes}
    dtype = np.dtype([(n, f'<{t.lower()}{s}') for n, t, s in zip(io.RADAR_FIELDS, TYPES, SIZES, strict=True)])
    data = np.zeros(len(rows), dtype)
    data['ambig_state'] = 3
    for i, row in enumerate(rows):
        for name, value in row.items():
            data[name][i] = value
    head = '# .PCD v0.7 - Point Cloud Data file format\n' + ''.join(f'{k} {v}\n' for k, v in lines.items())
    return head.encode() + data.tobytes() + b'\n'


@pytest.fixture
def write(tmp_path: Path):
    def write_one(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name
    return write_one


def jpeg(height: int = 24, width: int = 40) -> bytes:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 255  # blue-green-red: a red picture
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def test_image_is_rgb(write) -> None:
    image = load_image(write('a.jpg', jpeg()))
    assert image.shape == (24, 40, 3) and image.dtype == np.uint8
    assert image[..., 0].min() > 240 and image[..., 1:].max() < 15


@pytest.mark.parametrize(
    ('reduce', 'shape'), [(1, (24, 40, 3)), (2, (12, 20, 3)), (4, (6, 10, 3)), (8, (3, 5, 3))]
)
def test_image_reduced_by_the_decoder(write, reduce: int, shape: tuple) -> None:
    assert load_image(write('a.jpg', jpeg()), reduce).shape == shape


def test_reduced_K_moves_a_pixel_where_the_decoder_moves_its_content(write) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[40:48, 16:24] = 255  # centre of the square: row 43.5, column 19.5
    small = load_image(write('a.png', cv2.imencode('.png', image)[1].tobytes()), 4).astype(float)[..., 0]
    rows, columns = np.mgrid[:16, :16]
    found = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
    K = np.array([[100.0, 0, 19.5], [0, 100, 43.5], [0, 0, 1]])  # principal point on the square
    np.testing.assert_allclose(reduced_K(K, 4)[:2, 2], found, atol=0.02)
    assert reduced_K(K, 4)[0, 0] == 25


def test_reduce_must_be_a_power_the_decoder_knows(write) -> None:
    with pytest.raises(ValueError, match='expected one of'):
        load_image(write('a.jpg', jpeg()), 3)


@pytest.mark.parametrize('share', [0.3, 0.6, 0.95])
def test_cut_jpeg_is_refused(write, share: float) -> None:
    data = jpeg(200, 300)
    with pytest.raises(BadFile, match='a.jpg: found an image that is damaged or ends early'):
        load_image(write('a.jpg', data[:int(len(data) * share)]))


def test_cut_jpeg_with_a_whole_preview_inside_is_refused(write) -> None:
    preview = jpeg(8, 8)
    inside = b'\xff\xe1' + (len(preview) + 2).to_bytes(2, 'big') + preview
    whole = jpeg(200, 300)
    data = whole[:2] + inside + whole[2:]
    assert load_image(write('whole.jpg', data)).shape == (200, 300, 3)
    with pytest.raises(BadFile, match='ends early'):
        load_image(write('cut.jpg', data[:-100]))


def test_cut_png_is_refused(write) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    with pytest.raises(BadFile, match='ends early'):
        load_image(write('a.png', cv2.imencode('.png', noise)[1].tobytes()[:4000]))


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'zero bytes'), (b'not an image at all', 'expected a JPEG or PNG'),
        (b'\xff\xd8\xff\xd9', 'expected a JPEG or PNG')],
)
def test_no_image_is_refused(write, data: bytes, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        load_image(write('a.jpg', data))


def test_a_png_that_the_decoder_would_never_finish_is_refused(write) -> None:
    data = cv2.imencode('.png', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    with pytest.raises(BadFile, match='a.png: found an image that is damaged'):
        load_image(write('a.png', data.replace(b'IDAT', b'ID\x01T')))


def test_formats_are_told_by_content(write) -> None:
    tiff = cv2.imencode('.tiff', np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(BadFile, match='starting with 49492a00, expected a JPEG or PNG'):
        load_image(write('a.jpg', tiff))


def with_size(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header says another size."""
    at = data.index(b'\xff\xc0') + 5
    return data[:at] + height.to_bytes(2, 'big') + width.to_bytes(2, 'big') + data[at + 4:]


def test_an_image_is_not_decoded_to_another_size_than_the_tables_say(write, monkeypatch) -> None:
    bomb = write('a.jpg', with_size(jpeg(), 60000, 50000))
    monkeypatch.setattr(cv2, 'imdecode', None)
    with pytest.raises(BadFile, match='image of 50000 x 60000 pixels, expected 40 x 24 as in the tables'):
        load_image(bomb, 1, (24, 40))
    with pytest.raises(BadFile, match='50000 x 60000 pixels, of 8583 MiB.*at most 192.*SIZE_LIMIT=45'):
        load_image(bomb)


@pytest.mark.parametrize('load', [load_image, load_lidar_bin, load_radar_pcd])
def test_only_regular_files_of_a_plausible_size_are_opened(tmp_path: Path, load) -> None:
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(BadFile, match='found a pipe, expected a regular file'):
        load(tmp_path / 'pipe')
    with pytest.raises(BadFile, match='found a device'):
        load('/dev/zero')
    with (tmp_path / 'large').open('wb') as file:
        file.truncate(65 * 1024 ** 2)
    with pytest.raises(BadFile, match='found a file of 65 MiB, expected at most 64.*SIZE_LIMIT=2 in'):
        load(tmp_path / 'large')


@pytest.mark.parametrize('load', [load_image, load_lidar_bin, load_radar_pcd])
def test_absent_file_and_folder(tmp_path: Path, load) -> None:
    with pytest.raises(BadFile, match='no such file') as caught:
        load(tmp_path / 'absent')
    assert caught.value.path == str(tmp_path / 'absent')
    with pytest.raises(BadFile, match='cannot be read'):
        load(tmp_path)


def test_lidar_values(write) -> None:
    points = np.arange(15, dtype='<f4').reshape(3, 5)
    found = load_lidar_bin(write('a.pcd.bin', points.tobytes()))
    np.testing.assert_array_equal(found, points)
    assert found.dtype == np.float32 and found.flags.writeable


def test_lidar_drops_and_counts_what_is_not_finite(write) -> None:
    points = np.ones((5, 5), '<f4')
    points[1, 2], points[3, 0] = np.nan, -np.inf
    notes: list[io.DroppedPoints] = []
    assert load_lidar_bin(write('a.pcd.bin', points.tobytes()), notes).shape == (3, 5)
    assert len(notes) == 1 and 'dropped 2 of 5 points' in str(notes[0])


@pytest.mark.parametrize(('column', 'allowed', 'refused'), [
    (0, 1000, 1000.1), (2, -1000, -1e30), (3, 255, 255.5), (3, 0, -1), (3, 7, 1e8), (4, -1, 1e30)])
def test_lidar_drops_and_counts_what_no_sensor_measures(write, column, allowed, refused) -> None:
    points = np.ones((3, 5), '<f4')
    points[:2, column] = allowed, refused
    notes: list[io.DroppedPoints] = []
    found = load_lidar_bin(write('a.pcd.bin', points.tobytes()), notes)
    np.testing.assert_array_equal(found, points[[0, 2]])
    assert [(note.dropped, note.total) for note in notes] == [(1, 3)]


@pytest.mark.parametrize('damage', [
    {'vx_comp': 201}, {'vy_comp': -1e9}, {'vx': np.inf}, {'rcs': 101}, {'y': 1e4}, {'x': np.nan}])
def test_radar_drops_and_counts_what_no_sensor_measures(write, damage: dict) -> None:
    notes: list[io.DroppedPoints] = []
    path = write('a.pcd', pcd_bytes([{'vx_comp': 199, 'rcs': -99}, damage]))
    assert load_radar_pcd(path, notes=notes)[:, io.RADAR_FIELDS.index('vx_comp')].tolist() == [199]
    assert [(note.dropped, note.total) for note in notes] == [(1, 2)]


@pytest.mark.parametrize(
    ('data', 'reason'), [(b'', 'zero bytes'), (b'x' * 39, 'found 39 bytes, expected a multiple of 20')]
)
def test_bad_lidar(write, data: bytes, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        load_lidar_bin(write('a.pcd.bin', data))


def test_radar_values_and_filters(write) -> None:
    rows = [
        {'x': 1.5, 'vx_comp': -2.25, 'rcs': 7.5, 'id': 300}, {'x': 2, 'invalid_state': 4},
        {'x': 3, 'dyn_prop': 7}, {'x': 4, 'ambig_state': 2}, {'x': 5, 'dyn_prop': 6}]
    path = write('a.pcd', pcd_bytes(rows))
    kept = load_radar_pcd(path)
    assert kept.shape == (2, 18) and kept.dtype == np.float32
    np.testing.assert_array_equal(kept[:, 0], [1.5, 5])
    assert kept[0, io.RADAR_FIELDS.index('vx_comp')] == -2.25 and kept[0, io.RADAR_FIELDS.index('id')] == 300
    np.testing.assert_array_equal(load_radar_pcd(path, filters=False)[:, 0], [1.5, 2, 3, 4, 5])


def test_radar_empty_sweep(write) -> None:
    notes: list[io.DroppedPoints] = []
    assert load_radar_pcd(write('nan.pcd', pcd_bytes([{'x': np.nan}])), notes=notes).shape == (0, 18)
    assert 'dropped 1 of 1' in str(notes[0])
    assert load_radar_pcd(write('none.pcd', pcd_bytes([]))).shape == (0, 18)


def test_radar_equals_the_devkit(write) -> None:
    data_classes = pytest.importorskip('nuscenes.utils.data_classes')
    rng = np.random.default_rng(3)
    rows = [
        {
            'x': rng.normal(), 'y': rng.normal(), 'rcs': rng.normal(), 'dyn_prop': rng.integers(8),
            'vx_comp': rng.normal(), 'ambig_state': rng.integers(2, 5), 'invalid_state': rng.integers(2),
            'id': i}
        for i in range(200)
    ]
    path = write('a.pcd', pcd_bytes(rows))
    expected = data_classes.RadarPointCloud.from_file(str(path)).points.T
    assert 5 < len(expected) < 100
    np.testing.assert_array_equal(load_radar_pcd(path), expected.astype(np.float32))


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'FIELDS': ' '.join(reversed(io.RADAR_FIELDS))}, r'FIELDS: found \[vy_rms'),
    ({'FIELDS': 'x y z intensity'}, r'FIELDS: found \[x y z intensity\], expected \[x y z dyn_prop'),
    ({'DATA': 'ascii'}, "DATA: found 'ascii', expected binary"),
    ({'SIZE': '4 4 4'}, 'SIZE: found 3 entries, expected 18'),
    ({'COUNT': ' '.join(['2'] * 18)}, 'COUNT: found'),
    ({'TYPE': ' '.join(['X'] * 18)}, 'field x: found type X'),
    ({'WIDTH': 'many'}, 'found WIDTH many'),
    ({'HEIGHT': '2'}, 'HEIGHT 2'),
    ({'WIDTH': '900'}, r'expected 38700 \(900 points of 43 bytes\)')])
def test_bad_radar_header(write, changes: dict, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        load_radar_pcd(write('a.pcd', pcd_bytes([{'x': 1}], **changes)))


@pytest.mark.parametrize(('data', 'reason'), [(b'', 'zero bytes'), (b'\x00' * 5000, 'no PCD header'),
                                              (b'hello', 'no PCD header')])
def test_no_radar(write, data: bytes, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        load_radar_pcd(write('a.pcd', data))


def test_cut_radar(write) -> None:
    with pytest.raises(BadFile, match='cut short'):
        load_radar_pcd(write('a.pcd', pcd_bytes([{'x': 1}, {'x': 2}])[:-20]))


def test_real_radar_equals_the_devkit(real_frames: Path) -> None:
    data_classes = pytest.importorskip('nuscenes.utils.data_classes')
    path = next((real_frames / 'samples' / 'RADAR_FRONT').glob('*.pcd'))
    expected = data_classes.RadarPointCloud.from_file(str(path)).points.T
    found = load_radar_pcd(path)
    assert found.shape == (74, 18)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_real_lidar_equals_the_devkit(real_frames: Path) -> None:
    data_classes = pytest.importorskip('nuscenes.utils.data_classes')
    for path in (real_frames / 'samples' / 'LIDAR_TOP').glob('*.bin'):
        expected = data_classes.LidarPointCloud.from_file(str(path)).points.T
        np.testing.assert_array_equal(load_lidar_bin(path)[:, :4], expected)


def test_real_image(real_frames: Path) -> None:
    path = next((real_frames / 'samples' / 'CAM_FRONT').glob('*.jpg'))
    assert load_image(path).shape == (900, 1600, 3)
    assert load_image(path, 2).shape == (450, 800, 3)
