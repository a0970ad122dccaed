"""Pictures come out of messages as they went in, whatever their layout."""
from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from perception.recordings.messages.images import packed_image, rgb_image, rgb_of_packed
from perception.recordings.messages.values import BadMessage

PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)


def message(pixels: np.ndarray, encoding: str, pad: int = 0, big: int = 0, **changes) -> SimpleNamespace:
    """An Image of rows of bytes, `pad` bytes behind each."""
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=99)
    fields = dict(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, is_bigendian=big,
        step=padded.shape[1], data=padded.ravel())
    return SimpleNamespace(**fields | changes)


@pytest.mark.parametrize('pad', [0, 5])
def test_colours_come_in_any_order(pad):
    alpha = np.full((4, 6, 1), 7, np.uint8)
    bgr = np.ascontiguousarray(PICTURE[..., ::-1])
    for encoding, pixels in (
            ('rgb8', PICTURE), ('bgr8', bgr), ('8UC3', bgr), ('rgba8', np.concatenate([PICTURE, alpha], 2)),
            ('bgra8', np.concatenate([bgr, alpha], 2))):
        assert (rgb_image(message(pixels, encoding, pad)) == PICTURE).all(), encoding
    grey = np.ascontiguousarray(PICTURE[..., 0])
    assert (rgb_image(message(grey, 'mono8', pad)) == grey[..., None]).all()


@pytest.mark.parametrize('big', [0, 1])
def test_sixteen_bits_follow_their_byte_order(big):
    wide = (PICTURE.astype(np.uint16) * 256 + 17).astype('>u2' if big else '<u2')
    assert (rgb_image(message(wide, 'rgb16', 4, big)) == PICTURE).all()
    grey = np.ascontiguousarray(wide[..., 1])
    assert (rgb_image(message(grey, 'mono16', 0, big)) == PICTURE[..., 1:2]).all()


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_mosaic_of_one_colour_is_that_colour(pattern):
    colour = {'r': 200, 'g': 100, 'b': 30}
    cell = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    picture = rgb_image(message(np.tile(cell, (4, 4)), f'bayer_{pattern}8', 3))
    assert (picture == [200, 100, 30]).all()


def test_half_sampled_colours_come_back():
    y, u, v = 82, 90, 240  # red of ITU-R BT.601
    for encoding, four in (('yuv422', (u, y, v, y)), ('yuv422_yuy2', (y, u, y, v))):
        pixels = np.tile(np.array(four, np.uint8).reshape(1, 2, 2), (4, 3, 1))
        picture = rgb_image(message(pixels, encoding, 2))
        assert np.abs(picture.astype(int) - [255, 0, 0]).max() <= 3, encoding
        with pytest.raises(BadMessage, match='expected an even one'):
            rgb_image(message(np.zeros((4, 3, 2), np.uint8), encoding))


@pytest.mark.parametrize('changes, words', [
    ({'encoding': '64FC4'}, "encoding: found '64FC4', expected one of rgb8"),
    ({'step': 17}, 'rows of 17 bytes'), ({'height': 5}, '90 for 6 x 5 pixels'),
    ({'height': 0}, '6 x 0 pixels'), ({'height': 2 ** 31, 'width': 2 ** 31}, 'expected 1 to 64 million'),
    ({'data': PICTURE.ravel().astype('f4')}, 'found float32')])
def test_sizes_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(BadMessage, match=words):
        rgb_image(message(PICTURE, **{'encoding': 'rgb8', **changes}))


def test_files_in_messages_are_given_and_decoded():
    for name, exact in (('png', True), ('jpeg', False)):
        _, data = cv2.imencode(f'.{name}', np.kron(PICTURE, np.ones((8, 8, 1), np.uint8))[..., ::-1])
        packed = SimpleNamespace(format=f'rgb8; {name} compressed bgr8', data=data.ravel())
        assert packed_image(packed) == (data.tobytes(), name, (32, 48))
        difference = np.abs(rgb_of_packed(packed)[4::8, 4::8].astype(int) - PICTURE)
        assert difference.max() <= (0 if exact else 60)

    packed.data = data.ravel()[:20]
    with pytest.raises(BadMessage, match='cannot be read'):
        packed_image(packed)
    packed.data = np.frombuffer(b'RIFF1234WEBP', np.uint8)
    with pytest.raises(BadMessage, match='expected a JPEG or PNG'):
        packed_image(packed)


def test_a_file_that_claims_many_pixels_is_refused_by_its_header():
    import struct
    import zlib
    head = b'IHDR' + struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + head + struct.pack('>I', zlib.crc32(head))
    end = b'IDAT' + zlib.compress(b'')
    data += struct.pack('>I', len(end) - 4) + end + struct.pack('>I', zlib.crc32(end))
    with pytest.raises(BadMessage, match='60000 x 60000|exceeds limit'):
        packed_image(SimpleNamespace(format='png', data=np.frombuffer(data, np.uint8)))
