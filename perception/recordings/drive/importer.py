"""A recording to a root in nuScenes format: streaming, scene by scene, resumable.

Every run reads the recording from its beginning, as the choice of key frames depends on all that came before;
scenes that are finished are neither decoded nor written again.
"""
from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...core.files import write_bytes, write_json, write_text
from ...core.nuscenes.storage import (
    FINISHED,
    UNFINISHED,
    finished_scenes,
    is_empty_or_absent,
    load_json,
    recover,
    to_json,
)
from ...core.nuscenes.tables import (
    attribute_rows,
    category_rows,
    merge_tables,
    sensor_rows,
    token,
    visibility_rows,
)
from ..order import BagMessage
from ..recording import Recording
from .mapping import DriveMapping, mapping_record
from .measurements import Lost, Measurements
from .places import DrivePlaces
from .report import ImportReport, SensorTimes
from .scene_rows import scene_name
from .scene_writer import SceneWriter
from .streams import TF_TOPICS, DriveStream
from .sync import KeyFrameChooser, Placed

VERSION = 'v1.0-drive'
"""Name of the folder with the tables."""
RECORD = 'drive.json'
REPORT = 'import_report.json'
FORMAT = 1
SETTLED_NS = 150_000_000
"""After a measurement, until poses around it must have come."""


def import_drive(
    recordings: Sequence[Recording], mapping: DriveMapping, out: Path, say: Callable[[str], None] = print
) -> ImportReport:
    """Write a drive, or go on with one that was stopped.

    Args:
        recordings: one, or several that ran together on one clock.
        mapping: which topic is which sensor.
        out: root to write; absent, empty, or begun with the same recordings and mapping.
        say: receives a line a scene.

    Returns:
        What was found; the same lies in `<out>/import_report.json` and `.txt`.

    Raises:
        ValueError: the mapping does not fit the recording, or the folder holds something else. OSError: the
            disk; finished scenes are kept.
    """
    stream = DriveStream(recordings, mapping)
    with _opened(out, recordings, mapping):
        if (out / VERSION).is_dir():
            say(f'{out}: this drive is finished; nothing to do')
        else:
            report = _DriveImport(stream, mapping, out, say).run()
            _write_tables(out, mapping)
            write_json(out / REPORT, report.to_record(), indent=1)
            write_text((out / REPORT).with_suffix('.txt'), '\n'.join(report.lines()) + '\n')
            (out / UNFINISHED / VERSION).replace(out / VERSION)
            for leftover in (UNFINISHED, FINISHED):
                shutil.rmtree(out / leftover, ignore_errors=True)
            return report
    return ImportReport(finished_before=len(load_json(out / VERSION / 'scene.json')))


@contextmanager
def _opened(out: Path, recordings: Sequence[Recording], mapping: DriveMapping) -> Iterator[None]:
    """Begin a drive or go on with one of the same recordings, and keep other runs out of it meanwhile."""
    asked = json.loads(json.dumps({
        'format': FORMAT, 'mapping': mapping_record(mapping),
        'recordings': [
            {'name': recording.path.name, 'topics': {t.name: t.count for t in recording.topics.values()}}
            for recording in recordings],
        'order': [dataclasses.asdict(recording.order) for recording in recordings]}))
    if not (out / RECORD).is_file() and not is_empty_or_absent(out):
        raise ValueError(f'{out}: found a folder without {RECORD}, expected a new one or a drive')

    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f'{out}: another run is writing this drive now') from error
        recover(out)
        _check_record(out, asked)
        yield
    finally:
        os.close(folder)


def _check_record(out: Path, asked: dict[str, Any]) -> None:
    """Refuse to go on with a drive that was begun otherwise; where nothing of it is there, start it over."""
    path = out / RECORD
    if (out / VERSION).is_dir() or finished_scenes(out):
        stored = load_json(path)
        different = [key for key in asked if stored.get(key) != asked[key]]
        if different:
            raise ValueError(
                f'{path}: this drive was begun with another {" and another ".join(different)}; give the '
                'same, or another --out')
    else:
        write_bytes(path, to_json(asked, indent=1))


class _DriveImport:
    """One pass over a recording."""

    def __init__(
        self, stream: DriveStream, mapping: DriveMapping, out: Path, say: Callable[[str], None]
    ) -> None:
        self.stream, self.mapping, self.out, self.say = stream, mapping, out, say
        self.report = ImportReport(times={channel: SensorTimes() for channel in mapping.sensors})
        self.places = DrivePlaces(mapping)
        self.measurements = Measurements(mapping, self.places)
        self.chooser = KeyFrameChooser(mapping.reference, mapping.key_frames)
        self.finished = finished_scenes(out)
        self.scenes: dict[int, SceneWriter] = {}
        self._pending: deque[Placed] = deque()
        self._last_us: dict[str, int] = {}
        self._channel_of = {source.topic: channel for channel, source in mapping.sensors.items()}
        self._info_of: dict[str, list[str]] = {}
        for channel, source in mapping.cameras.items():
            if source.info and source.K_33 is None:
                self._info_of.setdefault(source.info, []).append(channel)

    def run(self) -> ImportReport:
        """Write all scenes that are not there yet."""
        jumps = 0
        try:
            for now_jumps, message in self.stream.messages():
                if now_jumps != jumps:
                    self._cut()
                    jumps = now_jumps
                self._take(message)
                self._pending.extend(self.chooser.released(message.time_ns))
                self._write_settled(message.time_ns)

            self._cut()
            self._close_before(None)
        finally:
            for scene in self.scenes.values():
                scene.discard()
        return self._summed()

    def _take(self, message: BagMessage) -> None:
        """Hold a measurement, or learn from what is none."""
        name = message.topic.name
        try:
            if name in self._channel_of:
                self._take_measurement(self._channel_of[name], message)
            elif name in self._info_of:
                for channel in self._info_of[name]:
                    self.measurements.add_info(channel, message)
            elif name in (*TF_TOPICS, self.mapping.poses.topic):
                self.places.add(message)
        except ValueError as error:
            self.report.dropped.add(f'{name}: {error}')

    def _take_measurement(self, channel: str, message: BagMessage) -> None:
        # the tables count microseconds, by which files are named
        microseconds = message.time_ns // 1000
        if self._last_us.get(channel) == microseconds:
            self.report.dropped.add(f'{channel}: the same time as the measurement before it')
            return
        self._last_us[channel] = microseconds
        self.report.times[channel].add(message.time_ns)
        self.chooser.add(channel, message.time_ns, message)

    def _cut(self) -> None:
        """All that is held is written; what follows is on another clock, or nothing."""
        self._pending.extend(self.chooser.cut())
        self._write_settled(None)
        self.places.clear()
        self._last_us.clear()

    def _write_settled(self, now_ns: int | None) -> None:
        """Write measurements around which all poses must have come; all with None."""
        gap_ns = int(self.mapping.poses.longest_gap_s * 1e9)
        while self._pending:
            waited = None if now_ns is None else now_ns - self._pending[0].time_ns
            if waited is not None and waited <= SETTLED_NS:
                return
            pose = self.places.global_T_ego(self._pending[0].time_ns)
            if pose is None and waited is not None and waited <= SETTLED_NS + gap_ns:
                return
            self._write(self._pending.popleft(), pose)

    # ------------------------------------------------------------------------ scenes

    def _write(self, placed: Placed, global_T_ego: np.ndarray | None) -> None:
        if placed.is_key_frame:
            self._close_before(placed.scene)
        scene = self._scene(placed.scene)
        if placed.is_key_frame:
            scene.rows.add_key_frame(placed.key_frame, placed.key_time_ns)
        self.places.forget_before(placed.time_ns)

        is_sweep_left_out = (
            not placed.is_key_frame and placed.channel in self.mapping.cameras
            and not self.mapping.key_frames.camera_sweeps)
        if scene.finished or is_sweep_left_out:
            return
        try:
            if global_T_ego is None:
                raise Lost(f'{placed.channel}: no pose of the car at its time')
            scene.add(placed, self.measurements.written(placed), global_T_ego)
        except Lost as error:
            scene.dropped.add(str(error))

    def _scene(self, number: int) -> SceneWriter:
        if number not in self.scenes:
            name = scene_name(self.mapping.name, number)
            self.scenes[number] = SceneWriter(self.out, name, self.mapping, name in self.finished)
        return self.scenes[number]

    def _close_before(self, number: int | None) -> None:
        """Close the scenes before one; all with None."""
        for key in sorted(self.scenes):
            if number is not None and key >= number:
                continue
            scene = self.scenes.pop(key)
            if scene.finished:
                self.report.finished_before += 1
                continue

            first = not self.report.scenes and not self.report.finished_before
            if first:
                self._check_first(scene)
            if scene.close():
                self.report.scenes += 1
                self.say(f'{scene.name}: {scene.rows.key_frames} key frames, '
                         f'{sum(scene.in_key_frames.values())} files in them')
            else:
                self._note_dropped(scene.dropped)

    def _check_first(self, scene: SceneWriter) -> None:
        """Stop early where a sensor measures and nothing of it can be written."""
        if not scene.rows.key_frames:
            return
        dead = [
            reason for reason in scene.dropped
            for channel in self.mapping.sensors
            if reason.startswith(f'{channel}: ') and not scene.in_key_frames[channel]]
        if dead:
            scene.discard()
            raise ValueError(
                'a whole scene without a measurement of some sensor that can be written: '
                + '; '.join(sorted(set(dead))[:10]))

    def _summed(self) -> ImportReport:
        """The report over all scenes, those of earlier runs too."""
        report = self.report
        for name in sorted(finished_scenes(self.out)):
            notes = load_json(self.out / FINISHED / f'{name}.json')['notes']
            report.key_frames += notes['key_frames']
            report.written.update(notes['written'])
            report.sweeps.update(notes['sweeps'])
            self._note_dropped(notes['dropped'])
            for channel, scene, index in notes['absent']:
                report.note_absent(channel, scene, index)

        report.dropped.update({
            f'{channel}: sweeps whose points could not be compensated for want of poses': count
            for channel, count in self.measurements.uncompensated.items()})
        report.cuts = [f'{words} ({time_ns * 1e-9:.3f} s)' for time_ns, words in self.chooser.cuts]
        report.order, report.problems = self.stream.order_record(), self.stream.problems()
        self._end_times()
        if not report.key_frames:
            raise ValueError(f'{self.out}: no key frame could be made; ' + '\n'.join(report.lines()))
        return report


    def _note_dropped(self, reasons: Mapping[str, int]) -> None:
        for words, count in reasons.items():
            self.report.dropped.add(words, count)

    def _end_times(self) -> None:
        """Tell of sensors that fell silent before the end; times of several clocks cannot be compared."""
        times = self.report.times.values()
        last_ns = max((one.last_ns for one in times if one.last_ns is not None), default=None)
        if last_ns is None or self.report.order['clock_jumps']:
            return
        for one in times:
            one.end(last_ns)


# -------------------------------------------------------------------- tables

def _write_tables(out: Path, mapping: DriveMapping) -> None:
    """All tables, in a folder that is not yet in its place, and the picture of a map that knows nothing."""
    contents: list[dict[str, Any]] = [
        load_json(out / FINISHED / f'{name}.json') for name in sorted(finished_scenes(out))]
    tables = merge_tables(contents)
    del tables['lidarseg']
    kinds = {channel: mapping.kind_of(channel) for channel in mapping.sensors}
    tables |= {
        'category': category_rows('a drive'), 'attribute': attribute_rows(), 'visibility': visibility_rows(),
        'sensor': sensor_rows(kinds)}

    # the devkit wants a picture of a map for every log
    picture = f'maps/{token("map", mapping.name)}.png'
    tables['map'] = [{
        'category': 'semantic_prior', 'token': token('map', mapping.name), 'filename': picture,
        'log_tokens': [row['token'] for row in tables['log']]}]
    _, content = cv2.imencode('.png', np.zeros((16, 16), np.uint8))
    write_bytes(out / picture, content.tobytes())

    for name, rows in tables.items():
        write_bytes(out / UNFINISHED / VERSION / f'{name}.json', to_json(rows, indent=0))
    for folder in ('samples', 'sweeps'):
        os.makedirs(out / folder, exist_ok=True)
