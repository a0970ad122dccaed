"""The 13 tables of a nuScenes dataset: their fixed rows, and how rows of each kind are made and linked.

The columns follow the published nuScenes schema (https://www.nuscenes.org/nuscenes#data-format). A token is
the MD5 of the words that identify a row, so that it depends on nothing but the world's seed and the row's
meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..protocols import LIDARSEG_CATEGORIES

Row = dict[str, Any]

TABLE_NAMES = (
    'category', 'attribute', 'visibility', 'instance', 'sensor', 'calibrated_sensor', 'ego_pose', 'log',
    'scene', 'sample', 'sample_data', 'sample_annotation', 'map')
SCENE_TABLES = ('instance', 'calibrated_sensor', 'ego_pose', 'log', 'scene', 'sample', 'sample_data',
                'sample_annotation', 'lidarseg')
"""Tables to which every scene adds rows; the others are the same in every world."""

ATTRIBUTES = {
    'vehicle.moving': 'The vehicle moves.',
    'vehicle.stopped': 'The vehicle stands for the moment, its driver means to go on.',
    'vehicle.parked': 'The vehicle stands without a driver.',
    'cycle.with_rider': 'Somebody sits on the cycle.', 'cycle.without_rider': 'Nobody sits on the cycle.',
    'pedestrian.sitting_lying_down': 'The person sits or lies.', 'pedestrian.standing': 'The person stands.',
    'pedestrian.moving': 'The person moves.'}
VISIBILITY_LEVELS = {'1': (0, 40), '2': (40, 60), '3': (60, 80), '4': (80, 100)}

MAP_FILES = {
    'singapore-onenorth': '53992ee3023e5494b90c316c183be829',
    'boston-seaport': '36092f0b03a857c6a3403e25b4b7aab3',
    'singapore-queenstown': '93406b464a165eaba6d9de76ca09f5da',
    'singapore-hollandvillage': '37819e65e09e5547b8a3ceaefba56bb2'}
"""Stem of each city's semantic-prior PNG: the devkit's BitMap looks for exactly these names."""


def token(*words: object) -> str:
    """32 hexadecimal digits that identify these words, the same ones on every machine."""
    return hashlib.md5('/'.join(str(word) for word in words).encode(), usedforsecurity=False).hexdigest()


def rotation_quaternion(rotation_33: np.ndarray) -> list[float]:
    """(w, x, y, z) of a rotation that turns by less than half a turn about x and y."""
    return rotation_quaternions(np.asarray(rotation_33)[None])[0].tolist()


def rotation_quaternions(rotation_N33: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of N rotations, (N, 4); w is not negative unless all turns are about z alone."""
    from scipy.spatial.transform import Rotation

    R = np.asarray(rotation_N33, np.float64)
    found = Rotation.from_matrix(R).as_quat()[:, [3, 0, 1, 2]]
    found = np.where(found[:, :1] < 0, -found, found)

    # a turn about z alone has exact zeros
    level = np.abs(R[:, 2, :2]).sum(axis=1) == 0
    half = 0.5 * np.arctan2(R[level, 1, 0], R[level, 0, 0])
    found[level] = 0
    found[level, 0], found[level, 3] = np.cos(half), np.sin(half)
    return found


def category_rows(source: str = 'the synthetic world') -> list[Row]:
    """All 32 lidarseg categories; those of the tracked objects are among them."""
    return [{'token': token('category', name), 'name': name, 'description': f'{name} of {source}',
             'index': index} for index, name in enumerate(LIDARSEG_CATEGORIES)]


def attribute_rows() -> list[Row]:
    """The eight attributes."""
    return [{'token': token('attribute', name), 'name': name, 'description': text}
            for name, text in ATTRIBUTES.items()]


def visibility_rows() -> list[Row]:
    """Four levels; their tokens are the digits 1 to 4, as in nuScenes."""
    return [{'token': level, 'level': f'v{low}-{high}',
             'description': f'{low} to {high} % of the thing can be seen in the six images'}
            for level, (low, high) in VISIBILITY_LEVELS.items()]


def sensor_rows(modality_of_channel: dict[str, str]) -> list[Row]:
    """One row per channel; modalities are `camera`, `lidar` or `radar`."""
    return [{'token': token('sensor', channel), 'channel': channel, 'modality': modality}
            for channel, modality in modality_of_channel.items()]


def map_rows(logs: Iterable[Row], locations: Iterable[str]) -> list[Row]:
    """One row per city of nuScenes with the logs that were driven in it."""
    logs = list(logs)
    return [{'category': 'semantic_prior', 'token': MAP_FILES[location],
             'filename': f'maps/{MAP_FILES[location]}.png',
             'log_tokens': [log['token'] for log in logs if log['location'] == location]}
            for location in locations]


def fixed_tables(modality_of_channel: dict[str, str]) -> dict[str, list[Row]]:
    """The tables that no scene adds to, except `map`."""
    return {'category': category_rows(), 'attribute': attribute_rows(), 'visibility': visibility_rows(),
            'sensor': sensor_rows(modality_of_channel)}


def link(rows: Sequence[Row]) -> None:
    """Fill `prev` and `next` of rows that follow one another; the ends get an empty string."""
    for before, after in zip([None, *rows], [*rows, None], strict=True):
        if before is not None:
            before['next'] = after['token'] if after is not None else ''
        if after is not None:
            after['prev'] = before['token'] if before is not None else ''


def merge_tables(scene_tables: Iterable[dict[str, list[Row]]]) -> dict[str, list[Row]]:
    """Rows of all scenes one after the other.

    Scenes of one drive share its `log` row, which is kept once.
    """
    merged: dict[str, list[Row]] = {name: [] for name in SCENE_TABLES}
    logs: dict[str, Row] = {}
    for tables in scene_tables:
        for name in SCENE_TABLES:
            if name == 'log':
                logs.update({row['token']: row for row in tables[name]})
            else:
                merged[name] += tables[name]
    merged['log'] = list(logs.values())
    return merged
