"""Small bags of made-up messages."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS


@pytest.fixture(scope='session')
def ros() -> SimpleNamespace:
    """ROS 2's own types by their short names, `store`, and `header(time_ns, frame)`."""
    pytest.importorskip('rosbags', reason='rosbags of the extra [bags] is not installed')
    from rosbags.typesys import Stores, get_typestore
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = {name.split('/')[-1]: kind for name, kind in store.types.items()}

    def header(time_ns: int, frame: str = '') -> Any:
        return types['Header'](stamp=types['Time'](sec=time_ns // NS, nanosec=time_ns % NS), frame_id=frame)
    return SimpleNamespace(store=store, header=header, **types)


@pytest.fixture(scope='session')
def image(ros: SimpleNamespace) -> Callable[..., Any]:
    """`image(time_ns, value)`: one of 2 x 3 pixels, all of one value."""
    def make(time_ns: int, value: int = 0) -> Any:
        return ros.Image(
            header=ros.header(time_ns, 'camera'), height=2, width=3, encoding='rgb8', is_bigendian=0, step=9,
            data=np.full(18, value % 256, np.uint8))
    return make


@pytest.fixture(scope='session')
def write_bag(ros: SimpleNamespace) -> Callable[..., Path]:
    """`write_bag(folder, [(topic, log_ns, message), ...], plugin='mcap')`: a bag of the library's writer."""
    def write(
        folder: Path, messages: Iterable[tuple[str, int, Any]], plugin: str = 'mcap', **topics: str
    ) -> Path:
        from rosbags.rosbag2 import StoragePlugin, Writer
        connections: dict[str, Any] = {}
        with Writer(folder, version=9, storage_plugin=StoragePlugin[plugin.upper()]) as writer:
            def connect(topic: str, kind: str) -> None:
                connections[topic] = writer.add_connection(topic, kind, typestore=ros.store)

            for topic, kind in topics.items():
                connect(f'/{topic}', kind)
            for topic, log_ns, message in messages:
                if topic not in connections:
                    connect(topic, message.__msgtype__)
                data = ros.store.serialize_cdr(message, message.__msgtype__)
                writer.write(connections[topic], log_ns, data)
        return folder
    return write
