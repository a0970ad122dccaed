"""Import mmdet3d's info files: its v1 (`infos`) and v2 (`data_list`) pickles. `write_v2` exports ours.

mmdet3d keeps boxes in the key frame's LiDAR frame and names transforms `a2b`, which is our `b_T_a`. A v1 info
(mmdet3d up to 1.0, BEVFusion, BEVDet) has quaternions and arrays; a v2 info (mmdet3d 1.1 and later,
`info_version` 1.1) has matrices as lists. Boxes made before mmdet3d 1.0 are (w, l, h) with a yaw that turns
the other way; they are told apart by the shape of cars. Pickles are read without running anything
(`safe_pickle`); what mmdet3d does not keep (radars, maps, visibility) is absent after.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.reading import DAMAGE
from ..reading.checks import check_frame
from ..reading.classes import class_counts
from ..reading.infos import (
    INDEX_NAME,
    INDEXED,
    InfosError,
    frames_with,
    read_index,
    write_index,
    write_scene,
)
from ..reading.records import FrameRecord, Json
from .conventions import are_old_boxes, from_old_boxes, lidar_boxes_to_ego
from .fields import Info
from .read_v1 import read_v1_info
from .read_v2 import class_names, read_v2_info
from .safe_pickle import load_plain_pickle

SCENE_GAP_S = 2.0


def read_mmdet3d(path: Path, root: Path | None = None) -> tuple[list[FrameRecord], Json]:
    """Read a v1 or v2 info pickle: frame records in time order, and its metadata.

    Args:
        path: the pickle.
        root: dataroot to look for the named files in; without it none is marked missing.

    Raises:
        BadFile: no readable pickle of plain data. InfosError: another structure than v1's or v2's; names what
        is missing.
    """
    infos, meta, read = _open(path, root)
    frames = []
    for i, info in enumerate(infos):
        try:
            frames.append(check_frame(path, read(info)))
        except InfosError:
            raise
        except DAMAGE as error:
            raise InfosError(f'{path}: info {i}: {type(error).__name__}: {error}') from error

    # which convention the boxes follow shows only over all frames together
    old = are_old_boxes([frame.boxes for frame in frames if frame.boxes is not None])
    frames = [_with_boxes_in_ego(frame, old) for frame in frames]
    return sorted(frames, key=lambda frame: frame.timestamp_us), meta if isinstance(meta, dict) else {}


def _open(path: Path, root: Path | None) -> tuple[list[Info], Info, Callable[[Info], FrameRecord]]:
    """Infos and metadata of a pickle, and the function that reads one of its infos."""
    content = load_plain_pickle(path)
    if isinstance(content, dict) and isinstance(content.get('data_list'), list):
        metainfo = content.get('metainfo', {})
        try:
            names = class_names(metainfo)
        except DAMAGE as error:
            raise InfosError(f'{path}: metainfo: {type(error).__name__}: {error}') from error
        return content['data_list'], metainfo, lambda info: read_v2_info(info, root, names)
    if isinstance(content, dict) and isinstance(content.get('infos'), list):
        return content['infos'], content.get('metadata', {}), lambda info: read_v1_info(info, root)

    keys = ', '.join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    raise InfosError(
        f"{path}: expected a dictionary with 'infos' (mmdet3d v1) or 'data_list' (v2), found {keys}"
    )


def _with_boxes_in_ego(frame: FrameRecord, old: bool) -> FrameRecord:
    """Move a frame's boxes from the LiDAR frame to ego."""
    if frame.boxes is None:
        return frame
    boxes = from_old_boxes(frame.boxes.boxes_M9) if old else frame.boxes.boxes_M9
    boxes = lidar_boxes_to_ego(boxes, frame.global_T_ego, frame.lidar[0].ego_T_sensor)
    return replace(frame, boxes=replace(frame.boxes, boxes_M9=boxes))


def import_infos(path: Path, folder: Path, split: str, root: Path | None = None) -> Json:
    """Read an mmdet3d pickle and write our infos of it as one split; other splits in the folder stay.

    Frames without a scene's name are grouped where less than two seconds pass between them.

    Returns:
        The index as written.

    Raises:
        BadFile, InfosError: as `read_mmdet3d`; or the folder's index is of another version of the tables.
    """
    frames, meta = read_mmdet3d(Path(path), root)
    version = str(meta.get('version', 'unknown'))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = read_index(folder) if (folder / INDEX_NAME).is_file() else _empty_index(version)
    if index['version'] != version:
        raise InfosError(f'{folder / INDEX_NAME}: it is of version {index["version"]}, {path} of {version}')

    left_out = Counter(index['left_out'])
    index['splits'][split] = []
    for name, scene_frames in group_scenes(frames, split):
        header = _header(name, scene_frames, Path(path).name)
        write_scene(folder, header, scene_frames)
        index['splits'][split] += header['tokens']
        index['scenes'][name] = {key: header[key] for key in INDEXED}
        index['class_counts'].update(header['class_counts'])
        left_out.update(header['left_out'])

    index['left_out'] = dict(sorted(left_out.items()))
    index['lidar_sweeps'] = max([index['lidar_sweeps'], *(len(frame.lidar) - 1 for frame in frames)])
    write_index(folder, index)
    return index


def _empty_index(version: str) -> Json:
    return {
        'version': version, 'lidar_sweeps': 0, 'radar_sweeps': 0, 'splits': {}, 'scenes': {},
        'class_counts': {}, 'left_out': {}, 'unfinished': []}


def group_scenes(frames: Sequence[FrameRecord], split: str) -> list[tuple[str, list[FrameRecord]]]:
    """Group frames in time order by scene, and link those that were not linked to each other.

    Returns:
        (name, frames) of each scene.
    """
    scenes: dict[str, list[FrameRecord]] = {}
    name = ''
    before_us = -np.inf
    for frame in frames:
        if not frame.scene and frame.timestamp_us - before_us > SCENE_GAP_S * 1e6:
            name = f'{split}-{len(scenes):04d}'
        before_us = frame.timestamp_us
        scene = frame.scene or name
        scenes.setdefault(scene, []).append(replace(frame, scene=scene))
    return [(name, _linked(scene_frames)) for name, scene_frames in scenes.items()]


def _linked(frames: Sequence[FrameRecord]) -> list[FrameRecord]:
    before = ['', *(frame.token for frame in frames[:-1])]
    after = [*(frame.token for frame in frames[1:]), '']
    return [
        replace(frame, previous=frame.previous or previous, next=frame.next or following)
        for frame, previous, following in zip(frames, before, after, strict=True)]


def _header(name: str, frames: Sequence[FrameRecord], source: str) -> Json:
    files = [record for frame in frames for record in (*frame.cameras.values(), *frame.lidar)]
    annotated = any(frame.boxes is not None for frame in frames)
    left_out = {
        'file missing': sum(record.missing for record in files),
        'no radars (imported)': len(frames),
        'no map (imported)': len(frames),
        'no annotations': 0 if annotated else len(frames),
    }

    return {
        'scene': name,
        'location': frames[0].location,
        'description': f'imported from {source}',
        'tokens': [frame.token for frame in frames],
        'class_counts': {frame.token: class_counts(frame) for frame in frames},
        'annotated': annotated,
        'frames_with': frames_with(frames),
        'left_out': {what: count for what, count in left_out.items() if count},
        'has_map': False,
        'made_from': {'imported': source},
    }
