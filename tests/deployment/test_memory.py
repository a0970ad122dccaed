"""A model with a memory in engines: a sequence agrees with torch's, drives start over as on the road."""
from __future__ import annotations

import gc
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perception.core.contracts import Batch, Frame
from perception.core.grid import BEVGrid
from perception.deployment.deployed import DeployedModel
from perception.deployment.engines import open_engine
from perception.deployment.export.graph import graph_inputs
from perception.deployment.export.network import export_network
from perception.deployment.export.sidecar import Sidecar
from perception.deployment.measure.compare import compare_drive
from perception.deployment.memory import EngineMemory
from perception.deployment.vehicle.records import FrameRequest, RuntimeOptions, SensorMeasurement
from perception.deployment.vehicle.runtime import Runtime, runtime_stages
from perception.fusion.memory.streams import Remembered
from perception.model import MultiTaskPerception
from tests.deployment.conftest import enliven, resident_mb, small_model, synthetic
from tests.fusion.memory.drives import turning_car

FRAMES = 6


def drive(frames: int = FRAMES, scene: str = 'drive') -> list[Batch]:
    """One car's frames, another picture and cloud each."""
    return [
        replace(synthetic(seed=i, points=600), frames=(replace(car, scene=scene),))
        for i, car in enumerate(turning_car(frames))]


@pytest.fixture(scope='module')
def remembering(made_once: Callable[..., Path]) -> tuple[MultiTaskPerception, Path]:
    """The debug network with LiDAR alone and a queue of two maps, weights that make each of them matter."""
    from perception.registry import MODELS
    _, config = small_model('debug.py')
    grid = config['encoders']['lidar']['grid']
    config = {
        **config, 'encoders': {'lidar': config['encoders']['lidar']},
        'fuser': {**config['fuser'], 'in_channels': {'lidar': 32}},
        'heads': {'map_segmentation': config['heads']['map_segmentation']},
        'memory': {'type': 'MapQueue', 'grid': grid, 'channels': 32, 'slots': 2}}
    torch.manual_seed(0)
    model = MODELS.build(config)
    enliven(model, drive(1)[0])
    assert isinstance(model.memory.grid, BEVGrid)
    folder = made_once('memory_export', lambda folder: export_network(model, drive(1)[0], folder, config))
    return model, folder


def test_the_sidecar_says_what_the_memory_is(remembering: tuple) -> None:
    sidecar = Sidecar.read(remembering[1])
    shapes = {spec.name: spec.shape for spec in sidecar.inputs if spec.name.startswith('memory.')}
    assert shapes == {
        'memory.maps': (1, 2, 32, 64, 64), 'memory.grid': (1, 2, 64, 64, 2), 'memory.present': (1, 2),
        'memory.age': (1, 2)}
    assert [spec.shape for spec in sidecar.outputs if spec.name == 'memory.map'] == [(1, 32, 64, 64)]


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
def test_engines_agree_over_a_drive(remembering: tuple, name: str) -> None:
    model, folder = remembering
    reference, other = open_engine('torch', folder, 'fp32', model), open_engine(name, folder, threads=1)
    differences = compare_drive(model, reference, other, drive())
    assert {d.name for d in differences} == {'map_segmentation.logits', 'memory.map'}
    assert max(d.relative for d in differences) < 1e-3

    # the memory is at work: without one the last answers differ
    raw = reference.infer(graph_inputs(model, drive()[-1]))
    memory = EngineMemory(model, model.memory.new_streams())
    for batch in drive():
        found = reference.infer(memory.recalled(graph_inputs(model, batch), batch.frames))
        memory.keep(found, batch.frames)
    assert np.abs(found['map_segmentation.logits'] - raw['map_segmentation.logits']).max() > 0.01


def test_a_deployed_model_follows_the_drives_of_a_batch(remembering: tuple) -> None:
    model, folder = remembering
    deployed = DeployedModel.open(folder, 'onnxruntime')
    first, second = drive(2), drive(2, 'another')
    for a, b in zip(first, second, strict=True):
        pair = Batch(
            (*a.frames, *b.frames), lidar_points=a.lidar_points + b.lidar_points,
            lidar_present_B=torch.ones(2, dtype=torch.bool))
        outputs = deployed(pair)
    model.forget()
    for batch in first:
        expected = model(model.data_preprocessor({'inputs': batch})['inputs'], mode='predict')
    for output in outputs:
        found, wanted = output.map_segmentation, expected[0].map_segmentation
        np.testing.assert_allclose(found.probabilities_6YX, wanted.probabilities_6YX, atol=1e-3)
    assert deployed.memory.streams[False].resets['new drive'] == 1  # the second of the first batch


class Vehicle:
    """A runtime whose frames are said one by one, on a clock of its own."""

    def __init__(self, model: MultiTaskPerception, engine: Any) -> None:
        self.now_ns, self.outputs, self.next = 0, [], None
        stages = runtime_stages(model, engine, lambda m: m.data, self._assemble)
        self.runtime = Runtime(
            ('LIDAR_TOP',), stages, lambda request, output, missing: self.outputs.append(output),
            RuntimeOptions(deadline_s=100.0), clock=lambda: self.now_ns)

    def _assemble(self, request: FrameRequest, values: dict) -> Batch:
        return values['LIDAR_TOP']

    def see(self, batch: Batch) -> None:
        self.now_ns += 500_000_000
        self.runtime.offer(SensorMeasurement('LIDAR_TOP', self.now_ns, batch))
        assert self.runtime.step()

    def resets(self) -> dict[str, int]:
        return self.runtime.monitor.resets


def spoilt(batch: Batch, **changes: object) -> Batch:
    return replace(batch, frames=(replace(batch.frames[0], **changes),))


def alike(a: Any, b: Any) -> bool:
    return np.allclose(a.map_segmentation.probabilities_6YX, b.map_segmentation.probabilities_6YX, atol=1e-6)


@pytest.fixture
def new_vehicle(remembering: tuple) -> Callable[[], Vehicle]:
    model, folder = remembering
    engine = open_engine('onnxruntime', folder, threads=1)
    return lambda: Vehicle(model, engine)


def seen(vehicle: Vehicle, batches: Sequence[Batch]) -> Any:
    for batch in batches:
        vehicle.see(batch)
    return vehicle.outputs[-1]


def test_a_lost_frame_only_ages_the_memory(new_vehicle: Callable) -> None:
    batches = drive()
    alone = seen(new_vehicle(), batches[3:4])
    vehicle = new_vehicle()
    with_gap = seen(vehicle, [*batches[:2], batches[3]])
    assert not alike(with_gap, alone)
    assert vehicle.resets() == {}

    # until it is too old
    vehicle, late = new_vehicle(), spoilt(batches[3], timestamp_ns=batches[3].frames[0].timestamp_ns + 10**10)
    assert alike(seen(vehicle, [*batches[:3], late]), alone)
    assert vehicle.resets() == {'age': 1}
    assert 'memory resets: age 1' in vehicle.runtime.monitor.report(0)


@pytest.mark.parametrize(('reason', 'change'), [
    ('new drive', lambda f: dict(scene='tomorrow')),
    ('no pose', lambda f: dict(global_T_ego=np.full((4, 4), np.nan))),
    ('order', lambda f: dict(timestamp_ns=f.timestamp_ns - 2 * 10**9)),
    ('pose jump', lambda f: dict(global_T_ego=f.global_T_ego + 500.0 * (np.arange(16).reshape(4, 4) == 3)))])
def test_it_starts_over_and_counts_why(new_vehicle: Callable, reason: str, change: Callable) -> None:
    batches = drive(4)
    changed = spoilt(batches[2], **change(batches[2].frames[0]))
    vehicle = new_vehicle()
    assert alike(seen(vehicle, [*batches[:2], changed]), seen(new_vehicle(), [changed]))
    assert vehicle.resets() == {reason: 1}
    assert vehicle.runtime.monitor.counts['answered'] == 3


def test_two_vehicles_do_not_share_what_they_saw(new_vehicle: Callable) -> None:
    batches = drive(3)
    one, two = new_vehicle(), new_vehicle()
    for batch in batches:
        one.see(batch)
    for batch in batches[2:]:
        two.see(batch)
    assert not alike(one.outputs[-1], two.outputs[-1])

    # mixed up in one runtime, each frame is another drive's
    mixed = new_vehicle()
    others = drive(3, 'the other car')
    for mine, other in zip(batches, others, strict=True):
        mixed.see(mine)
        mixed.see(other)
    assert mixed.resets() == {'new drive': 5}
    assert alike(mixed.outputs[-2], two.outputs[-1])


def test_minutes_with_lost_and_late_frames_leave_nothing_behind(new_vehicle: Callable) -> None:
    """Half a minute, or as many seconds as PERCEPTION_ENDURANCE says: a tenth of the frames is lost, a tenth
    late."""
    frames = max(50, 2 * int(os.environ.get('PERCEPTION_ENDURANCE', '0')))
    rng, clouds, vehicle = np.random.default_rng(0), drive(4), new_vehicle()
    before, cars = maps_alive(), turning_car(frames)
    waiting: list[int] = []
    last = gaps = 0
    memory_mb = []
    for number in range(frames):
        if number % 50 == 49:
            vehicle.outputs.clear()
            memory_mb.append(round(resident_mb()))
        fate = rng.uniform()
        if fate >= 0.1:
            waiting.append(number)
        if 0.1 <= fate < 0.2:
            continue  # it comes right before the next one
        for i in waiting:
            gaps += i - last > 4
            vehicle.see(replace(clouds[i % 4], frames=(replace(cars[i], token=f'f{i}'),)))
            last = i
        waiting.clear()

    counts = vehicle.runtime.monitor.counts
    assert counts['answered'] == counts['made'] >= frames * 0.8
    assert vehicle.resets() == ({'age': gaps} if gaps else {})
    assert maps_alive() - before <= 2  # what the queue has room for
    print('resident MB', memory_mb)
    assert max(memory_mb[4:], default=0) - memory_mb[min(3, len(memory_mb) - 1)] < 20, memory_mb


def maps_alive() -> int:
    """How many maps somebody remembers."""
    gc.collect()
    return sum(isinstance(thing, Remembered) for thing in gc.get_objects())


def test_frames_without_a_name_are_of_the_vehicle(new_vehicle: Callable) -> None:
    batches = drive(3)
    nameless = [spoilt(batch, scene='') for batch in batches]
    assert alike(seen(new_vehicle(), nameless), seen(new_vehicle(), batches))


def test_frames_are_records_of_one_moment() -> None:
    frame = Frame('a', 1, np.eye(4), 'scene', stream='part')
    assert (frame.run, frame.alone().run, Frame('a', 1, np.eye(4), 'scene').run) == ('part', '', 'scene')


@pytest.mark.skipif(
    'ONNXRUNTIME_ROOT' not in os.environ, reason="ONNXRUNTIME_ROOT names no C/C++ package of ONNX Runtime")
def test_the_example_in_cpp_follows_a_drive_as_python_does(remembering: tuple, tmp_path: Path) -> None:
    model, folder = remembering
    source, build = Path(__file__).resolve().parents[2] / 'examples' / 'cpp', tmp_path / 'build'
    root = f'-DONNXRUNTIME_ROOT={os.environ["ONNXRUNTIME_ROOT"]}'
    for words in (['-S', str(source), '-B', str(build), root], ['--build', str(build)]):
        subprocess.run(['cmake', *words], check=True, capture_output=True)

    # a lost frame, a frame without a pose, one that stands kilometres away, another drive
    batches = [*drive(8), *drive(3, 'another')]
    del batches[3]
    far = batches[6].frames[0].global_T_ego.copy()
    far[0, 3] += 5e3
    for index, pose in ((4, np.full((4, 4), np.nan)), (6, far)):
        frame = replace(batches[index].frames[0], global_T_ego=pose)
        batches[index] = replace(batches[index], frames=(frame,))

    remembered, expected = EngineMemory.of_vehicle(model), []
    engine = open_engine('onnxruntime', folder, threads=1)
    names = {spec.name for spec in Sidecar.read(folder).inputs if not spec.name.startswith('memory.')}
    for i, batch in enumerate(batches):
        inputs = graph_inputs(model, batch)
        write_frame(tmp_path / 'drive' / f'{i:03}', {name: inputs[name] for name in names}, batch.frames[0])
        expected.append(engine.infer(remembered.recalled(inputs, batch.frames)))
        remembered.keep(expected[-1], batch.frames)

    folders = map(str, [folder, tmp_path / 'drive', tmp_path / 'out'])
    done = subprocess.run([str(build / 'run_network'), *folders, '--drive'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for i, outputs in enumerate(expected):
        for name, values in outputs.items():
            found = np.load(tmp_path / 'out' / f'{i:03}' / f'{name}.npy')
            assert np.abs(found - values).max() < 1e-5 * max(np.abs(values).max(), 1), (i, name)
    assert dict(remembered.resets) == {'no pose': 1, 'pose jump': 1, 'new drive': 1}
    for reason, times in remembered.resets.items():
        assert f'started over, {reason}: {times}\n' in done.stdout


def write_frame(folder: Path, inputs: dict[str, np.ndarray], frame: Frame) -> None:
    folder.mkdir(parents=True)
    for name, values in inputs.items():
        np.save(folder / f'{name}.npy', values)
    pose = frame.global_T_ego.tolist() if np.isfinite(frame.global_T_ego).all() else None
    (folder / 'frame.json').write_text(json.dumps(
        {'drive': frame.run, 'timestamp_ns': frame.timestamp_ns, 'global_T_ego': pose}))
