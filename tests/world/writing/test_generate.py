"""A run can be stopped, fail, go on or be refused, and never leaves half a world that looks whole."""

import dataclasses
import fcntl
import hashlib
from pathlib import Path

import numpy as np
import pytest

from perception.core.nuscenes import storage
from perception.core.nuscenes.storage import SceneFolder, load_json
from perception.world.writing import generate
from perception.world.writing.options import WorldError, WorldOptions
from perception.world.writing.pool import next_job, run_jobs
from perception.world.writing.splits import plan_scenes
from perception.world.writing.worker import MapPlan
from tests.command import call
from tests.world.conftest import TINY, TOY

ROOT = Path(__file__).resolve().parents[3]


def contents(root):
    """MD5 of every file below a folder, by its name."""
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob('*')) if path.is_file()}


def test_same_seed_same_bytes_with_two_workers(tiny_world, tmp_path):
    generate.make_world(tmp_path / 'again', TINY, workers=2, report=lambda line: None)
    first = {name: md5 for name, md5 in contents(tiny_world).items() if not name.startswith('infos/')}
    assert contents(tmp_path / 'again') == first


def test_another_seed_makes_another_world(toy_worlds, tmp_path):
    toy_worlds(tmp_path / 'a')
    toy_worlds(tmp_path / 'b', dataclasses.replace(TOY, seed=2))
    first, second = contents(tmp_path / 'a'), contents(tmp_path / 'b')
    scan = next(name for name in first if name.startswith('samples/LIDAR_TOP'))
    assert first[scan] != second[scan]
    samples = [
        {row['token'] for row in load_json(tmp_path / world / TOY.version / 'sample.json')} for world in 'ab'
    ]
    assert not samples[0] & samples[1]


def test_a_finished_world_holds_nothing_but_itself(toy_worlds, tmp_path):
    report = toy_worlds(tmp_path / 'w')
    assert (report.scenes, report.key_frames) == (3, 6)
    assert {path.name for path in (tmp_path / 'w').iterdir()} == {
        'samples', 'maps', 'lidarseg', 'can_bus', 'gts', 'world.json', TOY.version}
    assert not [name for name in contents(tmp_path / 'w') if name.endswith('.tmp')]
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / 'w').rglob('*') if path.is_file())
    assert 's per key frame' in report.lines()[0] and any('cameras' in line for line in report.lines())


def _interrupt(line):
    raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(toy_worlds, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toy_worlds(tmp_path / 'w', report=_interrupt)
    assert not (tmp_path / 'w' / TOY.version).exists()
    assert len(storage.finished_scenes(tmp_path / 'w')) == 1
    assert toy_worlds(tmp_path / 'w').scenes == 2
    toy_worlds(tmp_path / 'whole')
    assert contents(tmp_path / 'w') == contents(tmp_path / 'whole')


def test_a_finished_world_is_left_alone(toy_worlds, tmp_path):
    toy_worlds(tmp_path / 'w')
    before = contents(tmp_path / 'w')
    assert toy_worlds(tmp_path / 'w').lines() == ['nothing to do: every scene was there']
    assert contents(tmp_path / 'w') == before


def test_a_full_disk_is_reported_and_leaves_finished_scenes_only(toy_worlds, tmp_path, monkeypatch):
    written, write = [], SceneFolder.write

    def write_until_full(folder, name, data):
        written.append(name)
        if len(written) > 60:
            raise OSError(28, 'No space left on device')
        write(folder, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(SceneFolder, 'write', write_until_full)
        with pytest.raises(WorldError, match='No space left on device; finished scenes are kept'):
            toy_worlds(tmp_path / 'w')
    assert not (tmp_path / 'w' / TOY.version).exists()
    assert len(storage.finished_scenes(tmp_path / 'w')) == 1
    assert not [path for path in (tmp_path / 'w' / storage.UNFINISHED).rglob('*') if path.is_file()]
    toy_worlds(tmp_path / 'w')
    toy_worlds(tmp_path / 'whole')
    assert contents(tmp_path / 'w') == contents(tmp_path / 'whole')


def test_a_small_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, 'free_bytes', lambda path: 5_000_000)
    with pytest.raises(WorldError, match=r'about \d+\.\d GB are needed, 0\.0 GB are free'):
        generate.make_world(tmp_path / 'w', WorldOptions(100))
    assert not (tmp_path / 'w').exists()


def test_other_arguments_are_refused_by_name(toy_worlds, tmp_path):
    toy_worlds(tmp_path / 'w')
    other = dataclasses.replace(TOY, seed=5, image_size_hw=(64, 96))
    with pytest.raises(
        WorldError, match=r'image_size_hw: found \[32, 48\], expected \[64, 96\]; seed: found 1, expected 5'
    ):
        toy_worlds(tmp_path / 'w', other)


def test_a_folder_with_other_files_is_refused(toy_worlds, tmp_path):
    (tmp_path / 'thesis.txt').write_text('important')
    with pytest.raises(WorldError, match='found a folder without world.json'):
        toy_worlds(tmp_path)
    assert contents(tmp_path) == {'thesis.txt': hashlib.md5(b'important').hexdigest()}


def test_two_runs_do_not_write_one_world(toy_worlds, tmp_path):
    toy_worlds(tmp_path / 'w')
    with (tmp_path / 'w' / 'world.json').open('rb') as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        with pytest.raises(WorldError, match='another run is making this world now'):
            toy_worlds(tmp_path / 'w')


def test_a_worker_keeps_to_a_city():
    plans = plan_scenes(12)
    assert next_job(plans, plans[5].location).location == plans[5].location
    assert next_job(plans, None).location == 'boston-seaport'
    order = [
        job.location for job, _ in run_jobs([*plans, MapPlan('boston-seaport')], lambda job: None, workers=1)
    ]
    changes = sum(a != b for a, b in zip(order, order[1:], strict=False))
    assert len(order) == 13 and changes == 3


def test_a_scene_does_not_depend_on_the_number_of_scenes(toy_worlds, tmp_path):
    toy_worlds(tmp_path / 'small')
    toy_worlds(tmp_path / 'large', dataclasses.replace(TOY, scenes=4))
    small, large = contents(tmp_path / 'small'), contents(tmp_path / 'large')
    samples = {name for name in small if name.startswith(('samples', 'gts', 'lidarseg'))}
    assert samples and all(large.get(name) == small[name] for name in samples)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--scenes', '1'], 'error: scenes: found 1, expected at least 2'),
    (['--scenes', '2', '--image-size', 'big'], "error: image-size: found 'big'"),
    (['--scenes', '2', '--rig', 'no_such_rig.json'], 'no_such_rig.json')])
def test_the_command_refuses_bad_arguments_in_one_line(tmp_path, arguments, message):
    done = call('make-world', '--out', tmp_path / 'w', *arguments)
    assert done.status == 1 and message in done.err
    assert not (tmp_path / 'w').exists()


def test_numbers_of_a_reading_depend_on_the_reading_alone():
    from perception.world.sensors.timing import Measurement
    from perception.world.toy import toy_scene
    from perception.world.writing.recorder import measurement_rng
    measurements = [Measurement('CAM_FRONT', 450_000, 0, True), Measurement('CAM_FRONT', 950_000, 1, True),
                    Measurement('CAM_BACK', 450_000, 0, True)]
    draws = [measurement_rng(toy_scene(), seed, measurement).random()
             for measurement in measurements for seed in (0, 1)]
    assert len(set(draws)) == 6
    assert np.array_equal(draws[:1], [measurement_rng(toy_scene(), 0, measurements[0]).random()])


def test_with_sweeps_every_sensor_runs_on_between_key_frames(toy_worlds, tmp_path):
    toy_worlds(tmp_path / 'w', dataclasses.replace(TOY, scenes=2, sweeps=True, occupancy=False))
    folder = tmp_path / 'w' / TOY.version
    rows = load_json(folder / 'sample_data.json')
    calibration = {row['token']: row['sensor_token'] for row in load_json(folder / 'calibrated_sensor.json')}
    channel = {row['token']: row['channel'] for row in load_json(folder / 'sensor.json')}
    samples = {row['token']: row for row in load_json(folder / 'sample.json')}
    by_token, per_channel = {row['token']: row for row in rows}, {}
    for row in rows:
        name = channel[calibration[row['calibrated_sensor_token']]]
        per_channel[name] = per_channel.get(name, 0) + 1
        assert not row['next'] or by_token[row['next']]['timestamp'] > row['timestamp']
        assert row['is_key_frame'] == row['filename'].startswith('samples/')
        assert row['is_key_frame'] or row['timestamp'] < samples[row['sample_token']]['timestamp'] + 40_000
        assert (tmp_path / 'w' / row['filename']).is_file()
    assert per_channel['LIDAR_TOP'] == 2 * 2 * 10 and per_channel['CAM_FRONT'] == 2 * (6 + 6)
    assert per_channel['RADAR_FRONT'] == 2 * 13
