"""A dataset that follows drives: one augmentation for a run, clips, and frames that know their run."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception.core.geometry import invert
from perception.core.selection import join_draw
from perception.datasets.drives.sampler import StreamSampler
from perception.datasets.reading.collate import collate
from perception.datasets.reading.dataset import NuScenesDataset

PIPELINE = [
    dict(type='ResizeCropFlipRotate', size_hw=(32, 88)),
    dict(type='RandomFlipRotateScale'),
    dict(type='PointShuffle')]


def make(root: Path, **options: Any) -> NuScenesDataset:
    reading = dict(lidar_sweeps=0, radar_sweeps=0, **options.pop('reading', {}))
    return NuScenesDataset(
        root, split='train', sensors=('camera', 'lidar'), tasks=(), pipeline=PIPELINE, reading=reading,
        **options)


def change_of(dataset: NuScenesDataset, frame: Any) -> np.ndarray:
    """The augmentation `new_T_old` of a frame: what moved its pose."""
    return invert(frame.global_T_ego) @ dataset.record(frame.token).global_T_ego


def test_frames_of_a_run_are_changed_alike(tiny_world: Path) -> None:
    dataset = make(tiny_world)
    sampler = StreamSampler(dataset, batch_size=1, seed=0, reset=0.0)
    first, second = ([dataset[number][0] for number in sampler] for _ in range(2))
    assert [s.frame.timestamp_ns for s in first] == sorted(s.frame.timestamp_ns for s in first)
    assert len({s.frame.run for s in first}) == 1
    changes = [[change_of(dataset, s.frame) for s in run] for run in (first, second)]
    for run in changes:
        for change in run[1:]:
            np.testing.assert_allclose(change, run[0], atol=1e-6)
    assert np.abs(changes[0][0] - changes[1][0]).max() > 0.01
    assert first[0].frame.run != second[0].frame.run

    # the images too
    raw = [dataset.load(dataset.indices[s.frame.token])[0] for s in first]
    maps = [s.camera.K_N33 @ np.linalg.inv(r.camera.K_N33) for s, r in zip(first, raw, strict=True)]
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-6)
    np.testing.assert_allclose(maps[2], maps[0], atol=1e-6)

    # what is drawn for each frame stays so
    alone = make(tiny_world)
    singles = [change_of(alone, alone[i][0].frame) for i in range(3)]
    assert np.abs(singles[0] - singles[1]).max() > 0.01
    assert alone[0][0].frame.stream == ''


def test_a_clip_holds_the_frames_before(tiny_world: Path) -> None:
    dataset = make(tiny_world, reading=dict(clip_frames=3))
    drive = dataset.drives()[0]
    last = dataset[join_draw(4, drive[2], len(dataset))][0]
    assert [s.frame.token for s in (*last.before, last)] == [dataset.tokens[i] for i in drive]
    for earlier in last.before:
        np.testing.assert_allclose(
            change_of(dataset, earlier.frame), change_of(dataset, last.frame), atol=1e-6)

    # before the start of a drive its oldest frame stands in, alone
    second = dataset[join_draw(4, drive[1], len(dataset))][0]
    assert [s.frame.run for s in second.before] == ['', second.frame.run]
    assert [s.frame.token for s in second.before] == [dataset.tokens[drive[0]]] * 2

    # a drive that is followed has one name for the whole clip
    number = list(StreamSampler(dataset, batch_size=1, seed=0, reset=0.0))[2]
    followed = dataset[number][0]
    assert {s.frame.run for s in followed.before} == {followed.frame.run} != {last.frame.run}

    batch = collate([(last, None), (second, None)], sensors=('camera', 'lidar'))['inputs']
    assert [[f.token for f in b.frames] for b in batch.before] == [
        [last.before[i].frame.token, second.before[i].frame.token] for i in (0, 1)]
    assert batch.before[0].images_BN3HW.shape == batch.images_BN3HW.shape
    with pytest.raises(ValueError, match=r'expected clips of one length, found \[0, 2\] earlier frames'):
        collate([(last, None), (make(tiny_world)[0][0], None)])


def test_what_following_refuses(tiny_world: Path) -> None:
    with pytest.raises(ValueError, match="'skip' would put frames of other times into a drive"):
        StreamSampler(make(tiny_world, reading=dict(bad_file='skip')), batch_size=1, seed=0)
    with pytest.raises(ValueError, match='clip_frames: found 0, expected a whole number above 0'):
        make(tiny_world, reading=dict(clip_frames=0))
