r"""A ROS 2 node over the vehicle's loop: messages in as bytes, predictions out as bytes.

    python examples/ros2/perception_node.py --ros-args \
        -p config:=CONFIG -p checkpoint:=WEIGHTS -p mapping:=FILE

Everything between the two is the package's own: the same functions play recordings (`perception run-scene
--bag`), and are tested there.
"""
from __future__ import annotations

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosidl_runtime_py.utilities import get_message

from perception.api import load_model
from perception.deployment.vehicle.drive import VehicleDrive
from perception.deployment.vehicle.playback import Player
from perception.recordings.drive.mapping import read_mapping
from perception.recordings.live.readings import LiveReadings
from perception.recordings.outputs.definitions import Message, encode
from perception.recordings.outputs.parts import OutputOptions
from perception.recordings.storage.records import BagTopic, RawMessage

LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PARAMETERS = {
    'config': '', 'checkpoint': '', 'mapping': '', 'engine': 'torch', 'export': '', 'precision': 'fp32',
    'frame_id': '', 'score': 0.3}


class PerceptionNode(Node):
    """Listens to the topics of a mapping file and publishes below /perception."""

    def __init__(self) -> None:
        super().__init__('perception')
        given = {name: self.declare_parameter(name, value).value for name, value in PARAMETERS.items()}
        mapping = read_mapping(given['mapping'])
        model = load_model(
            given['config'], given['checkpoint'], given['engine'], given['export'] or None,
            given['precision'])

        outputs = OutputOptions(mapping.poses.ground_frame(given['frame_id']), given['score'])
        self.player = Player(LiveReadings(mapping), recorder=self, outputs=outputs)
        self.drive = VehicleDrive(
            model, mapping.sensors, self.player.read, self.player.readings.places.global_T_ego, mapping.name)
        self.runtime = self.player.runtime(self.drive, model.deployed(given['precision']))

        self.outgoing: dict = {}
        self.incoming: dict = {}
        self.runtime.start()
        self.create_timer(1.0, self.subscribe)

    def subscribe(self) -> None:
        """Subscribe to the mapping's topics that are there by now."""
        for name, types in self.get_topic_names_and_types():
            if name in self.player.readings.topics and name not in self.incoming:
                topic = BagTopic(name, types[0], 'cdr')
                self.incoming[name] = self.create_subscription(
                    get_message(types[0]), name, lambda data, topic=topic: self.hear(topic, data),
                    LATCHED if name == '/tf_static' else qos_profile_sensor_data, raw=True)

    def hear(self, topic: BagTopic, data: bytes) -> None:
        """Take a message as it came."""
        now_ns = self.get_clock().now().nanoseconds
        self.player.hear(RawMessage(topic, now_ns, data), self.drive, self.runtime)

    def copy(self, message: RawMessage) -> None:
        """What was heard is on its topic already."""

    def write(self, topic: str, message: Message, log_ns: int, stamp_ns: int) -> None:
        """Publish a message of predictions."""
        if topic not in self.outgoing:
            self.outgoing[topic] = self.create_publisher(get_message(message.type), topic, 5)
        self.outgoing[topic].publish(encode(message))


def main() -> None:
    """Run until it is interrupted; then say what was counted."""
    rclpy.init()
    node = PerceptionNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        print(node.runtime.stop().report(node.runtime.clock()))
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
