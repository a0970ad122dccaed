"""Bags are read in order of time, whole or broken, and say what was lost."""
from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from perception.core.reading import BadFile
from perception.recordings.order import OrderOptions
from perception.recordings.recording import Recording
from perception.recordings.storage import mcap_file
from perception.recordings.storage.records import BagTopic, MissingReader

pytest.importorskip('rosbags', reason='rosbags of the extra [bags] is not installed')
pytest.importorskip('mcap', reason='mcap of the extra [bags] is not installed')

NS = 1_000_000_000
START = 1_700_000_000 * NS
TENTH = NS // 10
DELAY = 5_000_000


def values(recording: Recording, topic: str = '/camera') -> list[int]:
    """The first byte of every image, in the order given."""
    return [int(message.decode().data[0]) for message in recording.messages([topic])]


def stream(image, count: int, start: int = START, first: int = 0) -> list:
    return [
        ('/camera', start + i * TENTH + DELAY, image(start + i * TENTH, first + i)) for i in range(count)]


@pytest.fixture(params=['mcap', 'sqlite3'])
def plugin(request) -> str:
    return request.param


def file_of(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.suffix in ('.mcap', '.db3'))


# -------------------------------------------------------------------- whole

def test_a_bag_gives_its_topics_and_messages(tmp_path, write_bag, image, plugin):
    folder = write_bag(tmp_path / 'bag', stream(image, 5), plugin, empty='std_msgs/msg/String')
    for path in (folder, file_of(folder)):
        recording = Recording(path)
        rows = [(topic.name, topic.type, topic.encoding, topic.count) for topic in recording.topics.values()]
        assert rows == [
            ('/camera', 'sensor_msgs/msg/Image', 'cdr', 5), ('/empty', 'std_msgs/msg/String', 'cdr', 0)]
        messages = list(recording.messages())
        assert [m.time_ns for m in messages] == [START + i * TENTH for i in range(5)]
        assert [m.log_ns - m.time_ns for m in messages] == [DELAY] * 5
        assert values(recording) == [0, 1, 2, 3, 4]
        assert recording.problems == []


def test_an_unknown_topic_is_refused_before_anything_is_read(tmp_path, write_bag, image):
    recording = Recording(write_bag(tmp_path / 'bag', stream(image, 2)))
    with pytest.raises(ValueError, match="no topic '/camara'; did you mean '/camera'"):
        recording.messages(['/camara'])


def test_a_type_of_the_recording_alone_is_decoded_by_its_definition(tmp_path, ros):
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    store = get_typestore(Stores.ROS2_HUMBLE)
    kind = 'own_msgs/msg/Thing'
    store.register(get_types_from_msg('std_msgs/Header header\nfloat32[] numbers\nstring word', kind))
    thing = store.types[kind](header=ros.header(START), numbers=[1.5, 2.5], word='so')

    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/thing', kind, typestore=store)
        thing.numbers = __import__('numpy').array([1.5, 2.5], 'f4')
        writer.write(topic, START + 7, store.serialize_cdr(thing, kind))
    message, = Recording(tmp_path / 'bag').messages()
    assert message.time_ns == START and message.has_stamp
    assert message.decode().word == 'so' and message.decode().numbers.tolist() == [1.5, 2.5]


def test_a_definition_from_a_recording_makes_no_code_of_other_names():
    from rosbags.interfaces import Nodetype

    from perception.recordings.decoding import UndecodableMessage, check_types
    topic = BagTopic('/x', 'a/msg/B', 'cdr')
    number = (Nodetype.BASE, ('uint8', 0))
    check_types(topic, {'a/msg/B': ([], [('x', number)])})
    for fields in ([('x:exit()#', number)], [('x', (Nodetype.NAME, 'a"]/msg/C'))],
                   [('x', (Nodetype.ARRAY, ((Nodetype.NAME, 'a/msg/C'), 10 ** 9)))],
                   [('x', (Nodetype.ARRAY, ((Nodetype.BASE, ('string', 0)), 10 ** 9)))]):
        with pytest.raises(UndecodableMessage, match='/x: a/msg/B'):
            check_types(topic, {'a/msg/B': ([], fields)})


def test_a_ros1_bag_is_read_too(tmp_path, image):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore
    store = get_typestore(Stores.ROS1_NOETIC)
    types = {name.split('/')[-1]: kind for name, kind in store.types.items()}
    stamp = store.types['builtin_interfaces/msg/Time'](sec=START // NS, nanosec=5)
    with Writer(tmp_path / 'old.bag') as writer:
        topic = writer.add_connection('/text', 'std_msgs/msg/Header', typestore=store)
        data = store.serialize_ros1(types['Header'](3, stamp, 'car'), 'std_msgs/msg/Header')
        writer.write(topic, START, data)
        topic = writer.add_connection('/point', 'geometry_msgs/msg/PointStamped', typestore=store)
        point = types['PointStamped'](types['Header'](3, stamp, 'car'), types['Point'](1.0, 2.0, 3.0))
        writer.write(topic, START + 9, store.serialize_ros1(point, 'geometry_msgs/msg/PointStamped'))

    recording = Recording(tmp_path / 'old.bag')
    assert {name: topic.encoding for name, topic in recording.topics.items()} == {
        '/point': 'ros1', '/text': 'ros1'}
    message, = recording.messages(['/point'])
    assert message.time_ns == START + 5 and message.decode().point.y == 2.0


# -------------------------------------------------------------------- order and clocks

def test_messages_written_late_come_in_order(tmp_path, write_bag, image):
    messages = stream(image, 6)
    # the third was made at its time, and written 0.35 s later
    topic, log_ns, late = messages.pop(2)
    messages.insert(4, (topic, START + 5 * TENTH + 2 * DELAY, late))
    recording = Recording(write_bag(tmp_path / 'bag', messages))
    assert values(recording) == [0, 1, 2, 3, 4, 5]
    assert not recording.report.late


def test_what_comes_later_than_the_window_is_left_out_and_said(tmp_path, write_bag, image):
    messages = stream(image, 20)
    topic, _, late = messages.pop(2)
    messages.insert(12, (topic, START + 13 * TENTH + 2 * DELAY, late))
    recording = Recording(write_bag(tmp_path / 'bag', messages), OrderOptions(window_s=0.3))
    assert values(recording) == [0, 1, *range(3, 20)]
    assert recording.report.late == {'/camera': 1}


def test_a_jump_of_the_clock_begins_a_stretch_and_a_stray_time_does_not(tmp_path, write_bag, image, ros):
    hour = 3600 * NS
    messages = stream(image, 5)
    messages += [(t, log - hour, m) for t, log, m in stream(image, 5, START + hour + 5 * TENTH, 5)]
    pose = [('/pose', log + 1, ros.PoseStamped(
        ros.header(int(m.header.stamp.sec) * NS + m.header.stamp.nanosec), ros.Pose(
            ros.Point(0.0, 0.0, 0.0), ros.Quaternion(0.0, 0.0, 0.0, 1.0)))) for _, log, m in messages]
    recording = Recording(write_bag(tmp_path / 'jump', sorted(messages + pose, key=lambda row: row[1])))
    assert [(m.stretch, m.topic.name) for m in recording.messages()] == [
        (stretch, name) for stretch in (0, 1) for _ in range(5) for name in ('/camera', '/pose')]
    assert recording.report.jumps == ['/camera: its clock jumped by +3600.000 s']

    stray = stream(image, 6)
    stray[3] = (stray[3][0], stray[3][1], image(START + hour, 3))
    recording = Recording(write_bag(tmp_path / 'stray', stray))
    assert values(recording) == [0, 1, 2, 4, 5]
    assert recording.report.strays == {'/camera': 1} and recording.report.jumps == []


def test_a_clock_of_its_own_and_times_given_twice_are_said(tmp_path, write_bag, image):
    boot = [('/lidar', log + 1, image(m.header.stamp.nanosec + 40 * NS, 9)) for _, log, m in stream(image, 5)]
    messages = stream(image, 5)
    messages[4] = (*messages[4][:2], messages[3][2])
    recording = Recording(write_bag(tmp_path / 'bag', sorted(messages + boot, key=lambda row: row[1])))
    assert [m.topic.name for m in recording.messages()].count('/lidar') == 5
    assert recording.report.other_clocks_s == {'/lidar': pytest.approx(40 - START / NS, abs=1)}
    assert recording.report.repeated == {'/camera': 1}


def test_no_more_is_held_back_than_allowed(tmp_path, write_bag, image, monkeypatch):
    recording = Recording(
        write_bag(tmp_path / 'bag', stream(image, 40)), OrderOptions(window_s=100.0, held_mib=1))
    monkeypatch.setattr('perception.recordings.order.MIB', 200)
    first = next(recording.messages())
    assert first.time_ns == START
    assert values(recording) == list(range(40))


# -------------------------------------------------------------------- broken

@pytest.mark.parametrize('share', [0.9, 0.5, 0.25])
def test_a_file_that_was_cut_is_read_up_to_the_cut(tmp_path, write_bag, image, ros, plugin, share):
    messages = [
        (topic, log_ns, ros.Image(
            header=m.header, height=2, width=m.data[0] + 1, encoding='rgb8', is_bigendian=0, step=1500,
            data=m.data[:1].repeat(3000)))
        for topic, log_ns, m in stream(image, 40)]
    folder = write_bag(tmp_path / 'bag', messages, plugin)
    whole = file_of(folder).read_bytes()
    path = tmp_path / f'cut{file_of(folder).suffix}'
    path.write_bytes(whole[:int(share * len(whole))])

    recording = Recording(path)
    found = values(recording)
    assert found == list(range(len(found))) and len(found) >= 40 * share - 8
    assert any('kept' in words and path.name in words for words in recording.problems)


def packed_mcap(image, ros, compression: str, order: tuple[int, ...] = (0, 1, 2)) -> bytes:
    """A file of twelve chunks of one image each, of the library mcap; four and four in some order."""
    from mcap.writer import CompressionType, Writer
    out = io.BytesIO()
    writer = Writer(out, chunk_size=1, compression=CompressionType[compression])
    writer.start('', 'test')
    definition, _ = ros.store.generate_msgdef('sensor_msgs/msg/Image', ros_version=2)
    schema = writer.register_schema('sensor_msgs/msg/Image', 'ros2msg', definition.encode())
    channel = writer.register_channel('/camera', 'cdr', schema)
    for part in order:
        for i in range(4 * part, 4 * part + 4):
            data = ros.store.serialize_cdr(image(START + i * TENTH, i), 'sensor_msgs/msg/Image')
            writer.add_message(channel, START + i * TENTH, bytes(data), START + i * TENTH)
    writer.finish()
    return out.getvalue()


@pytest.mark.parametrize('compression', ['NONE', 'LZ4', 'ZSTD'])
def test_packed_chunks_are_read_whole_cut_and_damaged(tmp_path, image, ros, compression):
    path = tmp_path / 'a.mcap'
    content = packed_mcap(image, ros, compression)
    path.write_bytes(content)
    assert values(Recording(path)) == list(range(12))

    # without its summary
    cut = content[:content.rindex(struct.pack('<BQ', 15, 4))]
    path.write_bytes(cut)
    recording = Recording(path)
    assert values(recording) == list(range(12)) and recording.topics['/camera'].count == 12
    assert 'ends without a summary' in recording.problems[0]

    # a chunk in the middle whose bytes are others
    start = content.index(struct.pack('<QQ', START + 4 * TENTH, START + 4 * TENTH))
    broken = bytearray(content)
    broken[start + 70:start + 80] = b'\xff' * 10
    path.write_bytes(broken)
    recording = Recording(path)
    assert values(recording) == [i for i in range(12) if i != 4]
    assert 'is damaged' in recording.problems[0]


def test_chunks_out_of_order_are_taken_by_their_times(tmp_path, image, ros):
    path = tmp_path / 'a.mcap'
    path.write_bytes(packed_mcap(image, ros, 'ZSTD', (2, 0, 1)))
    recording = Recording(path, OrderOptions(window_s=0.1))
    assert values(recording) == list(range(12))
    assert recording.report.jumps == [] and not recording.report.late


def test_a_chunk_that_would_fill_the_memory_is_refused(monkeypatch):
    import zstandard
    packed = zstandard.compress(b'\0' * 100_000)
    assert mcap_file.unpack(packed, 'zstd', 1000) == b'\0' * 1001
    body = struct.pack('<QQQII', 0, 0, 2 ** 40, 0, 4) + b'zstd' + struct.pack('<Q', len(packed)) + packed
    with pytest.raises(ValueError, match='unpacks to 1048576 MiB'):
        mcap_file.unpack_chunk(body)
    lying = struct.pack('<QQQII', 0, 0, 1000, 0, 4) + b'zstd' + struct.pack('<Q', len(packed)) + packed
    with pytest.raises(ValueError, match='1001 bytes, its header says 1000'):
        mcap_file.unpack_chunk(lying)


def test_what_is_no_recording_is_refused_by_name(tmp_path, write_bag, image, plugin):
    with pytest.raises(BadFile, match='nothing.mcap: found no such recording'):
        Recording(tmp_path / 'nothing.mcap')
    (tmp_path / 'text.mcap').write_text('hello, world')
    with pytest.raises(BadFile, match='text.mcap: found the first bytes'):
        Recording(tmp_path / 'text.mcap')
    (tmp_path / 'text.txt').write_text('hello')
    with pytest.raises(BadFile, match='text.txt: found a file of another kind'):
        Recording(tmp_path / 'text.txt')
    (tmp_path / 'none.bag').touch()
    with pytest.raises(BadFile, match='none.bag: found zero bytes'):
        Recording(tmp_path / 'none.bag')
    with pytest.raises(BadFile, match='expected a recording'):
        Recording(tmp_path)
    with pytest.raises(BadFile, match='found no topic, expected some'):
        Recording(write_bag(tmp_path / 'empty', [], plugin))


def test_a_folder_without_or_with_a_wrong_list_of_files_is_read(tmp_path, write_bag, image, plugin):
    folder = write_bag(tmp_path / 'bag', stream(image, 3), plugin)
    listed = (folder / 'metadata.yaml').read_text()
    for text, words in (
            (None, 'found none'), ('{[', 'YAML'), (listed.replace('bag.', 'gone.'), 'found no such file')):
        (folder / 'metadata.yaml').unlink(missing_ok=True)
        if text is not None:
            (folder / 'metadata.yaml').write_text(text)
        recording = Recording(folder)
        assert values(recording) == [0, 1, 2]
        assert any(words in problem for problem in recording.problems)


def test_bytes_of_another_encoding_say_which(tmp_path):
    from mcap.writer import Writer

    from perception.recordings.decoding import UndecodableMessage
    with (tmp_path / 'a.mcap').open('wb') as file:
        writer = Writer(file)
        writer.start('', 'test')
        schema = writer.register_schema('own.Thing', 'protobuf', b'')
        writer.add_message(writer.register_channel('/own', 'protobuf', schema), START, b'12', START)
        writer.finish()
    message, = Recording(tmp_path / 'a.mcap').messages()
    assert message.time_ns == START and not message.has_stamp
    with pytest.raises(UndecodableMessage, match="/own: found messages in the encoding 'protobuf'"):
        message.decode()


def test_bytes_that_are_no_message_of_their_type_say_so(tmp_path, write_bag, image):
    recording = Recording(write_bag(tmp_path / 'bag', stream(image, 1)))
    message, = recording.messages()
    from perception.recordings.decoding import UndecodableMessage
    for size in (0, 3, 4, 20, len(message.data) - 1):
        with pytest.raises(UndecodableMessage, match='/camera: .* bytes are no sensor_msgs/msg/Image'):
            message.decoder.decode(message.topic, message.data[:size])


def test_without_the_extra_it_says_what_to_install(tmp_path, write_bag, image, monkeypatch):
    folder = write_bag(tmp_path / 'bag', stream(image, 1))
    monkeypatch.setitem(__import__('sys').modules, 'mcap.records', None)
    with pytest.raises(MissingReader, match=r'\[bags\]'):
        Recording(file_of(folder))
    monkeypatch.setitem(__import__('sys').modules, 'rosbags.typesys', None)
    with pytest.raises(MissingReader, match=r'\[bags\]'):
        Recording(folder)
