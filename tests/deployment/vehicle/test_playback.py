"""A scene as a recording through the vehicle's loop: the same answers, written beside what was heard."""
from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from perception.api import Perception, load_model
from perception.cli.commands import run_verb
from perception.core.config import read_config
from perception.core.contracts import TaskOutput
from perception.core.protocols import MAP_CLASSES, OCCUPANCY_FREE
from perception.datasets.reading.dataset import NuScenesDataset
from perception.deployment.vehicle.drive import VehicleDrive
from perception.deployment.vehicle.playback import Player, RecordingClock
from perception.deployment.vehicle.records import RuntimeOptions, SensorMeasurement
from perception.deployment.vehicle.runtime import Runtime
from perception.recordings.drive.mapping import read_mapping
from perception.recordings.export.scene import ExportOptions, SceneTables, export_scene
from perception.recordings.live.readings import LiveReadings
from perception.recordings.outputs.recorder import McapRecorder
from perception.recordings.recording import Recording
from perception.recordings.storage.records import RawMessage
from perception.registry import DATASETS
from tests.deployment.conftest import enliven

pytest.importorskip('rosbags', reason='needs the extra [bags]')
mcap_reader = pytest.importorskip('mcap.reader', reason='needs the extra [bags]')

CONFIG = Path(__file__).resolve().parents[3] / 'configs' / 'debug.py'
NS = 1_000_000_000


@pytest.fixture(scope='module')
def dataset(tiny_world: Path) -> NuScenesDataset:
    """Three key frames of one scene, as the debug configuration tests them."""
    return DATASETS.build({**read_config(CONFIG).test_dataloader.dataset, 'root': str(tiny_world)})


@pytest.fixture(scope='module')
def model(dataset: NuScenesDataset) -> Perception:
    """Weights with which every answer depends on every sensor."""
    with pytest.warns(UserWarning, match='random'):
        model = load_model(CONFIG)
    enliven(model.network, model.batch(dataset[0][0]))
    return model


@pytest.fixture(scope='module')
def bag(tiny_world: Path, dataset: NuScenesDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That scene as a recording."""
    folder = tmp_path_factory.mktemp('recording') / 'bag'
    tables = SceneTables(tiny_world, 'v1.0-trainval', dataset.load(0)[0].frame.scene)
    export_scene(tables, folder, ExportOptions())
    return folder


class Stepping(Runtime):
    """Computes a frame as soon as its LiDAR spoke, on the thread that offers."""

    def start(self, poll_s: float = 0.0) -> None:
        self.warm_up()

    def offer(self, measurement: SensorMeasurement) -> None:
        super().offer(measurement)
        self.step()

    def stop(self, timeout_s: float = 0.0) -> object:
        return self.monitor


def played(model: Perception, bag: Path, recorder: McapRecorder | None = None, **silent: float) -> tuple:
    """Every answer in order, and the monitor."""
    mapping = read_mapping(bag / 'mapping.json')
    answers: list[TaskOutput] = []
    player = Player(
        LiveReadings(mapping), RecordingClock(1e4), recorder, silent_from_s=silent,
        answered=lambda request, output, missing: answers.append((output, missing)))
    places = player.readings.places
    drive = VehicleDrive(model, mapping.sensors, player.read, places.global_T_ego, mapping.name)
    options = RuntimeOptions('LIDAR_TOP', 1e5, 1e5, 1e5)
    runtime = Stepping(drive.channels, drive.stages(model.deployed()), player.deliver, options)
    return answers, player.play(Recording(bag).raw_messages(), drive, runtime)


@pytest.fixture(scope='module')
def direct(model: Perception, dataset: NuScenesDataset) -> list[TaskOutput]:
    """What the model answers to the dataset's own samples."""
    return [model(dataset[i][0]) for i in range(len(dataset))]


@pytest.fixture(scope='module')
def recorded(model: Perception, bag: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    path = tmp_path_factory.mktemp('out') / 'predictions.mcap'
    with McapRecorder(path) as recorder:
        answers, monitor = played(model, bag, recorder)
    return path, answers, monitor


def test_answers_are_those_of_the_direct_path(recorded, direct) -> None:
    _, answers, monitor = recorded
    assert monitor.counts == {'made': 3, 'answered': 3}
    assert all(health.received == 3 and health.bad == 0 for health in monitor.channels.values())

    for (live, missing), expected in zip(answers, direct, strict=True):
        assert missing == () and live.frame.timestamp_ns == expected.frame.timestamp_ns
        assert np.allclose(live.frame.global_T_ego, expected.frame.global_T_ego, atol=1e-6)
        assert np.allclose(
            live.map_segmentation.probabilities, expected.map_segmentation.probabilities, atol=1e-4)
        assert (live.occupancy.semantics == expected.occupancy.semantics).mean() > 0.9999
        assert np.array_equal(live.detection.labels[:10], expected.detection.labels[:10])
        assert np.allclose(live.detection.boxes[:10], expected.detection.boxes[:10], atol=1e-2)
        assert np.allclose(live.detection.scores[:10], expected.detection.scores[:10], atol=1e-4)
        assert np.allclose(live.lanes.points, expected.lanes.points, atol=1e-2)

    # which says something: frames differ by far more
    first, second = (output.map_segmentation.probabilities for output, _ in answers[:2])
    assert np.abs(first - second).max() > 0.1


def test_the_file_holds_what_was_heard_and_what_was_answered(recorded, bag) -> None:
    from rosbags.highlevel import AnyReader
    path, answers, _ = recorded
    heard: list[tuple] = []
    with AnyReader([bag]) as reader:
        heard += [(c.topic, stamp, bytes(data)) for c, stamp, data in reader.messages()]

    found: list[tuple] = []
    predicted: dict[str, list] = {}
    with AnyReader([path]) as reader:
        for connection, stamp, data in reader.messages():
            if connection.topic.startswith('/perception/'):
                predicted.setdefault(connection.topic, []).append(
                    reader.deserialize(data, connection.msgtype))
            else:
                found.append((connection.topic, stamp, bytes(data)))
    assert sorted(found) == sorted(heard)

    assert {f'/perception/map/{name}' for name in MAP_CLASSES} < set(predicted)
    for i, (output, _) in enumerate(answers):
        detections = predicted['/perception/detections'][i]
        stamp = detections.header.stamp
        assert stamp.sec * NS + stamp.nanosec == output.frame.timestamp_ns
        centres = [[c.x, c.y, c.z] for c in (d.bbox.center.position for d in detections.detections)]
        assert centres == output.detection.boxes[:, :3].astype(float).tolist()
        grid = predicted['/perception/map/walkway'][i]
        assert np.abs(grid.data / 100 - output.map_segmentation.probabilities[2].ravel()).max() <= 0.0051
        assert predicted['/perception/occupancy'][i].width == (
            ~np.isin(output.occupancy.semantics, (OCCUPANCY_FREE, 255))).sum()


def test_a_sensor_that_falls_silent_is_absent(model, bag) -> None:
    answers, monitor = played(model, bag, CAM_BACK=0.3, CAM_FRONT=0.0)
    # measurements of before count as fresh for ever here, so that CAM_BACK stays
    assert [missing for _, missing in answers] == [('CAM_FRONT',)] * 3
    assert monitor.channels['CAM_BACK'].received == 1 and monitor.channels['CAM_FRONT'].received == 0


def test_damage_costs_its_sensor_and_nothing_else(model, bag) -> None:
    recording = Recording(bag)

    def damaged() -> Iterator[RawMessage]:
        for raw in recording.raw_messages():
            broken = raw.topic.name in ('/cam_back/image', '/odom')
            yield RawMessage(raw.topic, raw.log_ns, raw.data[:40]) if broken else raw

    mapping = read_mapping(bag / 'mapping.json')
    player = Player(LiveReadings(mapping), RecordingClock(1e4))
    drive = VehicleDrive(model, mapping.sensors, player.read, player.readings.places.global_T_ego)
    stages = drive.stages(model.deployed())
    runtime = Stepping(
        drive.channels, stages, player.deliver, RuntimeOptions('LIDAR_TOP', 1e5, 1e5, 1e5))
    monitor = player.play(damaged(), drive, runtime)
    assert monitor.counts == {'made': 3, 'answered': 3}
    health = monitor.channels['CAM_BACK']
    assert health.bad == 3 and '/cam_back/image' in health.last_error
    assert player.readings.damaged['/odom'] > 3 and len(player.readings.places.poses) == 0


def test_the_clock_keeps_the_rate_and_leaves_gaps_out() -> None:
    clock = RecordingClock(speed=20.0)
    assert clock.now_ns() == 0
    began = time.monotonic()
    for log_ns in (100 * NS, 101 * NS, 102 * NS, 500 * NS, 501 * NS):
        clock.wait_for(log_ns)
        assert 0 <= clock.now_ns() - log_ns < 10 * NS
    assert 0.15 <= time.monotonic() - began < 5
    assert clock.gaps == 1


def test_an_interruption_leaves_a_file_that_can_be_read(tmp_path, bag, monkeypatch, capsys) -> None:
    """As ctrl-C while the recording plays."""
    calls = []

    def wait_for(self, log_ns: int) -> None:
        calls.append(log_ns)
        if len(calls) == 12:
            raise KeyboardInterrupt
    monkeypatch.setattr(RecordingClock, 'wait_for', wait_for)
    out = tmp_path / 'out.mcap'
    words = ['--bag', str(bag), '--mapping', str(bag / 'mapping.json'), '--out', str(out)]
    assert run_verb('run-scene', [str(CONFIG), 'none', *words]) == 130

    with out.open('rb') as file:
        messages = list(mcap_reader.make_reader(file).iter_messages())
    assert {channel.topic for _, channel, _ in messages} > {'/tf_static', '/odom'}
    assert f'{out}: until the interruption, the recording' in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ['out.mcap']


@pytest.mark.parametrize('words, message', [
    (['--bag', 'BAG'], '--bag and --mapping belong together'),
    ([], 'required: --export'),
    (['--bag', 'BAG', '--mapping', 'MAP', '--scene', 'x'], '--scene chooses of a dataset'),
    (['--bag', 'BAG', '--mapping', 'MAP', '--engine', 'openvino'], '--engine openvino needs --export'),
    (['--bag', 'BAG', '--mapping', 'MAP', '--out', 'x.json'], 'expected FILE.mcap with --bag, found x.json'),
    (['--bag', 'BAG', '--mapping', 'MAP', '--out', 'BAG/out.mcap'], 'which is of the recording'),
    (['--bag', 'BAG', '--mapping', 'MAP', '--kill', 'CAM_UP'], "found 'CAM_UP'")])
def test_a_command_without_sense_is_refused(bag, words, message, capsys) -> None:
    given = [w.replace('BAG', str(bag)).replace('MAP', str(bag / 'mapping.json')) for w in words]
    try:
        status = run_verb('run-scene', [str(CONFIG), 'none', *given])
    except SystemExit as end:
        status = end.code
    assert status == 2 and message in capsys.readouterr().err


def test_predictions_do_not_float_with_a_base_above_the_ground(tmp_path, bag, capsys) -> None:
    mapping = json.loads((bag / 'mapping.json').read_text())
    mapping['poses']['base_height_m'] = 0.3
    path = tmp_path / 'high.json'
    path.write_text(json.dumps(mapping))
    assert run_verb('run-scene', [str(CONFIG), 'none', '--bag', str(bag), '--mapping', str(path)]) == 2
    assert 'base_link lies 0.3 m above the ground' in capsys.readouterr().err
