"""Our arrays to ROS 2 messages of the library rosbags: the way back of `recordings.messages`."""
from __future__ import annotations

from typing import Any

import numpy as np

from ...core.lens import BROWN_CONRADY, Distortion
from ..storage.records import bags_extra

NS = 1_000_000_000
_DATATYPES = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}


class RosMessages:
    """Makes messages of ROS 2 Humble's types.

    Attributes:
        store: the library's types, which serialise them.

    Raises:
        MissingReader: the library rosbags is not installed.
    """

    def __init__(self) -> None:
        with bags_extra():
            from rosbags.typesys import Stores, get_typestore
        self.store = get_typestore(Stores.ROS2_HUMBLE)

    def serialized(self, message: Any) -> bytes:
        """The bytes of a message (CDR)."""
        return bytes(self.store.serialize_cdr(message, message.__msgtype__))

    def _make(self, kind: str, *values: Any, **named: Any) -> Any:
        return self.store.types[kind](*values, **named)

    def header(self, time_ns: int, frame: str) -> Any:
        """A std_msgs/Header."""
        stamp = self._make('builtin_interfaces/msg/Time', sec=time_ns // NS, nanosec=time_ns % NS)
        return self._make('std_msgs/msg/Header', stamp=stamp, frame_id=frame)

    def image(self, time_ns: int, frame: str, pixels_HW3: np.ndarray) -> Any:
        """A sensor_msgs/Image of uint8 RGB."""
        height, width, _ = pixels_HW3.shape
        return self._make(
            'sensor_msgs/msg/Image', header=self.header(time_ns, frame), height=height, width=width,
            encoding='rgb8', is_bigendian=0, step=3 * width, data=np.ascontiguousarray(pixels_HW3).ravel())

    def packed_image(self, time_ns: int, frame: str, data: bytes, kind: str) -> Any:
        """A sensor_msgs/CompressedImage of the bytes of a 'jpeg' or 'png'."""
        return self._make(
            'sensor_msgs/msg/CompressedImage', header=self.header(time_ns, frame), format=kind,
            data=np.frombuffer(data, np.uint8))

    def camera_info(
        self, time_ns: int, frame: str, size_hw: tuple[int, int], K_33: np.ndarray, lens: Distortion | None
    ) -> Any:
        """A sensor_msgs/CameraInfo."""
        numbers = lens.coefficients if lens else (0.0,) * 5
        if lens is None or lens.model == BROWN_CONRADY:
            model = 'rational_polynomial' if len(numbers) == 8 else 'plumb_bob'
        else:
            model = 'equidistant'
        region = self._make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
        P = np.concatenate([K_33, np.zeros((3, 1))], 1)

        return self._make(
            'sensor_msgs/msg/CameraInfo', header=self.header(time_ns, frame), height=size_hw[0],
            width=size_hw[1], distortion_model=model, d=np.array(numbers, dtype=np.float64),
            k=K_33.astype(np.float64).ravel(), r=np.eye(3).ravel(), p=P.ravel(), binning_x=0, binning_y=0,
            roi=region)

    def cloud(self, time_ns: int, frame: str, points_P: np.ndarray) -> Any:
        """A sensor_msgs/PointCloud2 of a record array; its fields keep their names and types."""
        dtype = points_P.dtype
        fields = [
            self._make(
                'sensor_msgs/msg/PointField', name=name, offset=dtype.fields[name][1],
                datatype=_DATATYPES[dtype.fields[name][0].str[1:]], count=1)
            for name in dtype.names]
        data = np.ascontiguousarray(points_P).view(np.uint8).ravel()
        return self._make(
            'sensor_msgs/msg/PointCloud2', header=self.header(time_ns, frame), height=1, width=len(points_P),
            fields=fields, is_bigendian=False, point_step=dtype.itemsize, row_step=len(data), data=data,
            is_dense=True)

    def odometry(self, time_ns: int, frame: str, child: str, record: dict) -> Any:
        """A nav_msgs/Odometry of a record with `translation` and `rotation` (w, x, y, z)."""
        pose = self._make(
            'geometry_msgs/msg/Pose', position=self._vector('Point', record['translation']),
            orientation=self._turn(record['rotation']))
        still = self._make(
            'geometry_msgs/msg/Twist', *[self._vector('Vector3', (0.0, 0.0, 0.0)) for _ in range(2)])
        unknown = np.zeros(36)
        return self._make(
            'nav_msgs/msg/Odometry', header=self.header(time_ns, frame), child_frame_id=child,
            pose=self._make('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=unknown),
            twist=self._make('geometry_msgs/msg/TwistWithCovariance', twist=still, covariance=unknown))

    def transforms(self, time_ns: int, parent: str, records: dict[str, dict]) -> Any:
        """A tf2_msgs/TFMessage: {child frame: record with translation and rotation}."""
        entries = [
            self._make(
                'geometry_msgs/msg/TransformStamped', header=self.header(time_ns, parent),
                child_frame_id=child, transform=self._make(
                    'geometry_msgs/msg/Transform', translation=self._vector('Vector3', record['translation']),
                    rotation=self._turn(record['rotation'])))
            for child, record in records.items()]
        return self._make('tf2_msgs/msg/TFMessage', transforms=entries)

    def _vector(self, kind: str, xyz: Any) -> Any:
        return self._make(f'geometry_msgs/msg/{kind}', *map(float, xyz))

    def _turn(self, wxyz: Any) -> Any:
        w, x, y, z = map(float, wxyz)
        return self._make('geometry_msgs/msg/Quaternion', x, y, z, w)
