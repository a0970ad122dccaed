"""The ROS 2 example with a stand-in for rclpy, fed with a recording's messages."""
from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags of the extra [bags] is not installed')
pytest.importorskip('mcap', reason='mcap of the extra [bags] is not installed')

from perception.deployment.vehicle.drive import VehicleDrive  # noqa: E402
from perception.deployment.vehicle.records import Stages  # noqa: E402
from perception.deployment.vehicle.runtime import Runtime  # noqa: E402
from perception.recordings.outputs.definitions import output_types  # noqa: E402
from perception.recordings.recording import Recording  # noqa: E402
from tests.recordings.drives import MAPPING, Drive, write_drive  # noqa: E402
from tests.recordings.test_outputs import output  # noqa: E402

NODE = Path(__file__).resolve().parents[2] / 'examples' / 'ros2' / 'perception_node.py'


class StandIn:
    """Of rclpy's Node: what the example calls, with rclpy's arguments."""

    graph: list = []
    given: dict = {}

    def __init__(self, name: str) -> None:
        self.subscribed: dict = {}
        self.published: list = []
        self.timers: list = []

    def declare_parameter(self, name: str, value: object) -> SimpleNamespace:
        return SimpleNamespace(value=self.given.get(name, value))

    def create_timer(self, period_s: float, callback) -> None:
        self.timers.append(callback)

    def get_topic_names_and_types(self) -> list:
        return self.graph

    def create_subscription(self, kind: str, topic: str, callback, qos: object, *, raw: bool) -> object:
        assert raw
        self.subscribed[topic] = (kind, callback, qos)
        return topic

    def create_publisher(self, kind: str, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(publish=lambda data: self.published.append((topic, kind, data)))

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))


@pytest.fixture
def node_module(monkeypatch) -> ModuleType:
    def add(name: str, **content: object) -> None:
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)

    add('rclpy')
    add('rclpy.node', Node=StandIn)
    add('rclpy.qos', DurabilityPolicy=SimpleNamespace(TRANSIENT_LOCAL='latched'), QoSProfile=dict,
        qos_profile_sensor_data='sensor data')
    add('rosidl_runtime_py')
    add('rosidl_runtime_py.utilities', get_message=lambda name: name)
    spec = importlib.util.spec_from_file_location('perception_node', NODE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_in_model() -> SimpleNamespace:
    """Of `Perception`: what it is asked for comes back as the answer's frame."""
    return SimpleNamespace(
        sensors=('camera', 'lidar'), cameras=('CAM_LEFT', 'CAM_RIGHT'), lidar_sweeps=0, own_returns_m=0.0,
        sample=lambda **frame: frame, batch=lambda sample: sample, deployed=lambda precision: None)


def test_a_recordings_messages_come_out_as_predictions(tmp_path, monkeypatch, node_module) -> None:
    bag = write_drive(tmp_path / 'bag', Drive(0.5).messages())
    recording = Recording(bag)
    (tmp_path / 'mapping.json').write_text(json.dumps(MAPPING))
    frames: list[dict] = []

    def answered(frame: dict) -> object:
        frames.append(frame)
        return output()
    monkeypatch.setattr(node_module, 'load_model', lambda *words: stand_in_model())
    monkeypatch.setattr(VehicleDrive, 'stages', lambda self, deployed, track=None: Stages(
        self.unpack, self.assemble, lambda batch: batch, lambda frame: frame,
        lambda raw, batch: answered(raw)))
    monkeypatch.setattr(Runtime, 'start', lambda self: None)  # the test itself computes, step by step
    StandIn.given = {
        'mapping': str(tmp_path / 'mapping.json'), 'config': 'c', 'checkpoint': 'w', 'frame_id': 'ground'}
    StandIn.graph = [(name, [topic.type]) for name, topic in recording.topics.items()]

    node = node_module.PerceptionNode()
    node.timers[0]()
    node.timers[0]()
    assert set(node.subscribed) == set(recording.topics)
    assert node.subscribed['/tf_static'][2] == {'depth': 100, 'durability': 'latched'}
    assert node.subscribed['/points'][2] == 'sensor data'

    for raw in recording.raw_messages():
        node.subscribed[raw.topic.name][1](raw.data)
        node.runtime.step()
    assert node.runtime.monitor.counts['answered'] >= 3

    frame = next(frame for frame in frames if 'images' in frame)
    assert frame['images']['CAM_LEFT'].shape == (24, 40, 3) and len(frame['points']) == 50
    published = {topic: (kind, data) for topic, kind, data in node.published}
    kind, data = published['/perception/detections']
    found = output_types().deserialize_cdr(data, kind)
    assert kind == 'vision_msgs/msg/Detection3DArray' and len(found.detections) == 3
    assert found.header.frame_id == 'ground'
    assert np.isclose(found.detections[0].bbox.center.position.x, 10)


def test_predictions_do_not_float_where_the_cars_frame_is_above_the_ground(
    tmp_path, monkeypatch, node_module
) -> None:
    (tmp_path / 'mapping.json').write_text(json.dumps(MAPPING))
    monkeypatch.setattr(node_module, 'load_model', lambda *words: stand_in_model())
    StandIn.given = {'mapping': str(tmp_path / 'mapping.json'), 'config': 'c', 'checkpoint': 'w'}
    with pytest.raises(ValueError, match='base_height_m: .* 0.3 m above the ground'):
        node_module.PerceptionNode()
