"""Ten simulated minutes of the vehicle's loop with a real model under all faults at once.

Takes minutes: set PERCEPTION_ENDURANCE to the number of simulated seconds (600).
"""
from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.core.contracts import Batch, TaskOutput
from perception.deployment.engines.torch_engine import TorchEngine
from perception.deployment.export.graph import ExportGraph, TensorSpec, fixed_shapes, graph_inputs
from perception.deployment.vehicle.records import FrameRequest, RuntimeOptions, SensorMeasurement
from perception.deployment.vehicle.runtime import Runtime, runtime_stages
from perception.model import MultiTaskPerception
from tests.deployment.conftest import resident_mb, small_model, synthetic

SECONDS = int(os.environ.get('PERCEPTION_ENDURANCE', '0'))
CAMERAS = tuple(f'CAM_{i}' for i in range(6))
CHANNELS = ('LIDAR_TOP', *CAMERAS)
TICK_S, FRAME_TICKS = 0.1, 5

FAULTS = (
    'dead camera', 'dead lidar', 'all dead', 'corrupt image', 'corrupt cloud', 'no stamp', 'clock jump',
    'burst', 'absurd points', 'absurd calibration', 'deliver raises', 'engine raises', 'thread dies',
    'not finite', 'slow')


class Clock:
    """Simulated nanoseconds, for several threads."""

    def __init__(self) -> None:
        self.now_ns = 10**9

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


class Drive:
    """A car whose sensors, engine and bus fail as `faults` says, around a real model."""

    def __init__(self, model: MultiTaskPerception) -> None:
        self.clock, self.rng = Clock(), np.random.default_rng(0)
        self.faults: set[str] = set()
        self.met: Counter = Counter()
        self.last: tuple | None = None
        self.jump_ns = 0

        self.batch = synthetic(points=1500)
        self.engine = torch_engine(model, self.batch)
        stages = runtime_stages(model, self.engine, self.unpack, self.assemble)
        self.stages = replace(stages, infer=self.infer)
        options = RuntimeOptions(
            'LIDAR_TOP', period_s=0.5, max_age_s=0.45, deadline_s=1.0, needs_calibration=CAMERAS)
        self.runtime = Runtime(CHANNELS, self.stages, self.deliver, options, self.clock, waiting=2)

    def hit(self, fault: str) -> bool:
        """Whether a fault happens now; counts that it did."""
        if fault not in self.faults:
            return False
        self.met[fault] += 1
        return True

    # ------------------------------------------------ what the runtime calls

    def unpack(self, measurement: SensorMeasurement) -> torch.Tensor:
        value = measurement.data
        expected = (3, 64, 176) if measurement.channel in CAMERAS else (None, 6)
        if not isinstance(value, torch.Tensor) or (tuple(value.shape) != expected and value.ndim == 3):
            raise ValueError(f'{measurement.channel}: expected {expected}')
        return value

    def assemble(self, request: FrameRequest, values: dict[str, torch.Tensor]) -> Batch:
        if self.hit('thread dies'):
            self.faults.discard('thread dies')
            raise SystemExit('the driver left')
        images, poses = self.batch.images_BN3HW.clone(), self.batch.ego_T_cam_BN44.clone()
        present = torch.tensor([[name in values for name in CAMERAS]])
        for i, name in enumerate(CAMERAS):
            if name in values:
                images[0, i], poses[0, i] = values[name], request.calibrations[name]
        return replace(
            self.batch, images_BN3HW=images, ego_T_cam_BN44=poses, camera_present_BN=present,
            lidar_points=(values.get('LIDAR_TOP', torch.zeros(0, 6)),),
            lidar_present_B=torch.tensor(['LIDAR_TOP' in values]))

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.hit('engine raises'):
            raise RuntimeError('the device is lost')
        raw = self.engine.infer(inputs)
        if self.hit('slow'):
            self.clock.advance(1.5)
        if self.hit('not finite'):
            raw['lanes.points'].flat[0] = math.nan
        return raw

    def deliver(self, request: FrameRequest, output: TaskOutput, missing: tuple[str, ...]) -> None:
        if self.hit('deliver raises'):
            raise OSError('the bus is full')
        self.last = (output, missing)

    # ------------------------------------------------ what the sensors do

    def speak(self, channel: str) -> None:
        lidar = channel == 'LIDAR_TOP'
        if self.hit('all dead') or (self.hit('dead lidar') if lidar else channel == 'CAM_2' and
                                    self.hit('dead camera')):
            return

        stamp_ns: object = self.clock() + self.jump_ns
        if channel == 'CAM_5' and self.hit('no stamp'):
            stamp_ns = None
        for _ in range(40 if channel == 'CAM_1' and self.hit('burst') else 1):
            self.runtime.offer(SensorMeasurement(channel, stamp_ns, self.data(channel)))

    def data(self, channel: str) -> object:
        if channel != 'LIDAR_TOP':
            corrupt = channel == 'CAM_3' and self.hit('corrupt image')
            return b'\xff\xd8' if corrupt else self.batch.images_BN3HW[0, CAMERAS.index(channel)]
        if self.hit('corrupt cloud'):
            return None
        points = self.batch.lidar_points[0]
        if self.hit('absurd points'):
            points = points.clone()
            points[:10, 3], points[10:20, 5], points[20:30, 0] = 1e38, -1e30, math.nan
        return points

    def calibrate(self) -> None:
        for i, name in enumerate(CAMERAS):
            pose = self.batch.ego_T_cam_BN44[0, i]
            if name == 'CAM_4' and self.hit('absurd calibration'):
                pose = pose.double().clone()
                pose[0, 3] = 1e300
            self.runtime.calibrate(name, pose.float())

    def second(self, faults: set[str]) -> None:
        """One simulated second; frames end within the tick that asked for them."""
        self.faults = faults
        if self.hit('clock jump'):
            self.jump_ns += int(self.rng.integers(-3600, 3600)) * 10**9
        self.calibrate()
        for tick in range(round(1 / TICK_S)):
            for channel in CAMERAS:
                self.speak(channel)
            if tick % FRAME_TICKS == FRAME_TICKS - 1:
                self.speak('LIDAR_TOP')
            self.clock.advance(TICK_S)
            self.settle()

    def settle(self) -> None:
        """Let the threads end what they have begun."""
        time.sleep(0.004)
        until = time.monotonic() + 30
        while sum(self.ends().values()) < self.runtime.monitor.counts.get('made', 0):
            assert time.monotonic() < until, self.runtime.monitor.report(self.clock())
            time.sleep(0.002)

    def ends(self) -> dict[str, int]:
        counts = self.runtime.monitor.counts
        return {kind: count for kind, count in counts.items() if kind != 'made'}


def torch_engine(model: MultiTaskPerception, batch: Batch) -> TorchEngine:
    """The model as an engine of fixed shapes, without an export."""
    inputs = graph_inputs(model, batch)
    graph = ExportGraph(model, list(inputs))
    with fixed_shapes(model), torch.no_grad():
        outputs = graph(*map(torch.from_numpy, inputs.values()))
    specs = [TensorSpec.of(name, value) for name, value in inputs.items()]
    return TorchEngine(
        model, specs, [TensorSpec.of(n, v) for n, v in zip(graph.output_names, outputs, strict=True)])


@pytest.mark.skipif(not SECONDS, reason='takes minutes: set PERCEPTION_ENDURANCE=600')
def test_minutes_of_all_faults_at_once():
    warnings.simplefilter('ignore')
    before = threading.active_count()
    drive = Drive(small_model('debug.py')[0].eval())
    drive.runtime.start(poll_s=0.001)

    memory_mb = []
    for second in range(SECONDS):
        count = int(drive.rng.integers(1, 6))
        drive.second(set(drive.rng.choice(FAULTS, count, replace=False)))
        if second % 30 == 29:
            memory_mb.append(resident_mb())

    # a quiet end: everything works again
    for _ in range(5):
        drive.second(set())
    monitor = drive.runtime.stop()
    print(monitor.report(drive.clock()), dict(drive.met), [round(mb) for mb in memory_mb], sep='\n')

    output, missing = drive.last
    assert missing == () and output.masked == () and len(output.predictions()) == 4
    assert set(drive.met) == set(FAULTS)
    assert monitor.counts['made'] == sum(drive.ends().values()) and monitor.counts['answered'] > SECONDS / 2
    assert set(monitor.counts) == {'made', 'answered', 'late', 'failed', 'dropped', 'blind'}

    assert monitor.masked['lanes'] <= drive.met['not finite'] and set(monitor.masked) == {'lanes'}
    assert monitor.deaths == {'prepare': drive.met['thread dies']}
    assert monitor.left_out['lidar points out of range'] >= 30
    assert monitor.left_out['cameras with a calibration out of range'] >= 1
    assert monitor.channels['CAM_5'].bad == drive.met['no stamp'] and monitor.channels['CAM_3'].bad > 0
    assert threading.active_count() == before
    if len(memory_mb) > 4:
        assert max(memory_mb[2:]) - memory_mb[1] < 40, memory_mb
