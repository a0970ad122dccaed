"""Ground truth of the detection metric, from nuScenes tables or from labels."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.contracts import (
    CENTRE,
    NUSCENES_CLASSES,
    SIZE,
    VELOCITY,
    YAW,
    BoxLabels,
    DetectionClasses,
    Frame,
    check_same_classes,
)
from ...core.protocols import VISIBILITY_LEVELS
from ..errors import ResultError
from .boxes import (
    ATTRIBUTE_OF,
    WIDTH_LENGTH_HEIGHT,
    BoxTable,
    Rack,
    ego_to_global,
    yaw_of_quaternions,
)
from .tables import Drives, read_drives, stream_records

_RACK = 'static_object.bicycle_rack'
_MAX_GAP_S = 1.5


@dataclass(frozen=True)
class GroundTruth:
    """Annotated boxes of S samples, where the car stood, and the bicycle racks.

    Attributes:
        tokens: S sample tokens.
        ego_S3: float64 position of the car at LiDAR time, global, metres.
        boxes: every annotated box of the classes (not yet filtered by range or points).
        racks: bicycle racks.
        is_custom: of a split of `splits.json`. As in the devkit, results are then read in the order of
            `tokens`, whatever the file's, and samples outside the split are left out of them.
        drives: scene and time of each sample; None where they are not known (tracks cannot be scored).
        instances: token of the object that each box is of; empty where they are not known.
        classes: what the labels mean.
    """

    tokens: tuple[str, ...]
    ego_S3: np.ndarray
    boxes: BoxTable
    racks: tuple[Rack, ...] = ()
    is_custom: bool = False
    drives: Drives | None = None
    instances: tuple[str, ...] = ()
    classes: DetectionClasses = NUSCENES_CLASSES

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            raise ResultError(
                f'ground truth: {len(self.tokens) - len(set(self.tokens))} samples appear twice'
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @staticmethod
    def from_tables(
        root: str | Path, version: str, split: str, classes: DetectionClasses = NUSCENES_CLASSES
    ) -> GroundTruth:
        """Read what the metric needs from the nuScenes tables in `root/version`, in the tables' order.

        Raises:
            ResultError: a table is absent, damaged or refers to what is not there, the split is unknown or
                has no samples, a box has two attributes, a category of the classes is unknown.
        """
        try:
            return _TableReader(Path(root), version, split, classes).read()
        except KeyError as error:
            raise ResultError(
                f'{Path(root) / version}: a record lacks the field or refers to the absent token {error}'
            ) from None

    @staticmethod
    def from_frames(items: Iterable[tuple[Frame, BoxLabels]], racks: Sequence[Rack] = ()) -> GroundTruth:
        """Truth from contract records; boxes move from ego to global once.

        Bicycle racks are no detection class, so `BoxLabels` does not hold them; pass `racks` for exact
        official numbers (`Rack.sample` counts the items). Boxes are float32 in ego, so scores agree with the
        tables' to about 1e-5.

        Raises:
            ValueError: the labels are of different classes.
        """
        items = list(items)
        classes = items[0][1].classes if items else NUSCENES_CLASSES
        for frame, labels in items:
            check_same_classes(labels.classes, classes, (f'sample {frame.token}', 'the first sample'))
        parts = [_global_rows(i, frame, labels) for i, (frame, labels) in enumerate(items)]
        ego_S3 = np.array([frame.global_T_ego[:3, 3] for frame, _ in items], dtype=np.float64).reshape(-1, 3)
        boxes = BoxTable.join(parts) if parts else BoxTable.empty()
        tokens = tuple(frame.token for frame, _ in items)
        return GroundTruth(tokens, ego_S3, boxes, tuple(racks), classes=classes)

    def index(self) -> dict[str, int]:
        """Sample token -> row of `tokens`."""
        return {token: i for i, token in enumerate(self.tokens)}


def _global_rows(sample: int, frame: Frame, labels: BoxLabels) -> BoxTable:
    """One sample's labels moved to global."""
    boxes = ego_to_global(frame.global_T_ego, labels.boxes_M9)
    points_M = np.asarray(labels.num_lidar_points_M) + np.asarray(labels.num_radar_points_M)
    return BoxTable.make(
        np.full(len(boxes), sample), boxes[:, CENTRE], boxes[:, SIZE][:, WIDTH_LENGTH_HEIGHT], boxes[:, YAW],
        boxes[:, VELOCITY], labels.labels_M, labels.attributes_M, None, points_M, labels.visibility_M)


class _TableReader:
    """One pass over the tables of a version, in which only the needed columns stay."""

    def __init__(self, root: Path, version: str, split: str, classes: DetectionClasses) -> None:
        self.folder = root / version
        self.classes = classes
        self.drives = read_drives(root, version, split)
        self.time_s = dict(zip(self.drives.tokens, (1e-6 * self.drives.time_us_S).tolist(), strict=True))
        self.sample_of = {token: i for i, token in enumerate(self.drives.tokens)}

    def _table(self, name: str):
        return stream_records(self.folder / f'{name}.json')

    def read(self) -> GroundTruth:
        """The truth of the split."""
        self.visibility = self._visibility_levels()
        boxes, racks, instances = self._boxes_and_racks()
        return GroundTruth(
            self.drives.tokens, self._ego_positions(), boxes, racks, self.drives.is_custom, self.drives,
            instances, self.classes)

    def _ego_positions(self) -> np.ndarray:
        channel, sensor = self._lidar()
        calibrated = {r['token'] for r in self._table('calibrated_sensor') if r['sensor_token'] == sensor}

        # ego_pose token -> the samples whose LiDAR key frame has it
        samples_of: dict[str, list[int]] = {}
        with_lidar = set()
        for r in self._table('sample_data'):
            of_lidar = r['is_key_frame'] and r['calibrated_sensor_token'] in calibrated
            if of_lidar and r['sample_token'] in self.sample_of:
                samples_of.setdefault(r['ego_pose_token'], []).append(self.sample_of[r['sample_token']])
                with_lidar.add(r['sample_token'])

        if len(with_lidar) < len(self.sample_of):
            lost = next(token for token in self.sample_of if token not in with_lidar)
            raise ResultError(f'{self.folder}/sample_data.json: sample {lost} has no {channel} key frame')

        ego_S3 = np.full((len(self.sample_of), 3), np.nan)
        for r in self._table('ego_pose'):
            for sample in samples_of.get(r['token'], ()):
                ego_S3[sample] = r['translation']
        if np.isnan(ego_S3).any():
            raise ResultError(f'{self.folder}/ego_pose.json: the pose of a {channel} key frame is absent')
        return ego_S3

    def _lidar(self) -> tuple[str, str]:
        """Channel and token of the LiDAR whose key frames say where the car is: nuScenes' or the only one."""
        lidars = {
            r['channel']: r['token'] for r in self._table('sensor')
            if r['channel'] == 'LIDAR_TOP' or r['modality'] == 'lidar'}
        channel = 'LIDAR_TOP' if 'LIDAR_TOP' in lidars else next(iter(lidars), '')
        if not lidars or (channel != 'LIDAR_TOP' and len(lidars) > 1):
            raise ResultError(
                f'{self.folder}/sensor.json: found LiDARs {", ".join(lidars) or "none"}, expected LIDAR_TOP '
                'or a single one'
            )
        return channel, lidars[channel]

    def _visibility_levels(self) -> dict[str, int]:
        """Token of a row of `visibility.json` -> its level 1..4, 0 where the words are not nuScenes'."""
        if not (self.folder / 'visibility.json').is_file():
            return {}
        return {r['token']: VISIBILITY_LEVELS.get(r['level'], 0) for r in self._table('visibility')}

    def _boxes_and_racks(self) -> tuple[BoxTable, tuple[Rack, ...], tuple[str, ...]]:
        category = {r['token']: r['name'] for r in self._table('category')}
        label_of = self._labels(category.values())
        attribute = {r['token']: ATTRIBUTE_OF.get(r['name'], -1) for r in self._table('attribute')}
        category_of = {r['token']: category[r['category_token']] for r in self._table('instance')}
        place: dict[str, tuple[list[float], float]] = {}
        kept, racks = [], []

        for r in self._table('sample_annotation'):
            sample = self.sample_of.get(r['sample_token'])
            if sample is None:
                continue

            # velocities are differences of neighbours, which may be of a class that does not count
            place[r['token']] = (r['translation'], self.time_s[r['sample_token']])
            name = category_of[r['instance_token']]
            if label_of[name] >= 0:
                self._check_attributes(r)
                kept.append((sample, label_of[name], r))
            elif name == _RACK:
                centre, size, rotation = (np.array(r[key]) for key in ('translation', 'size', 'rotation'))
                racks.append(Rack(sample, centre, size, rotation))

        kept.sort(key=lambda item: item[0])
        instances = tuple(record['instance_token'] for _, _, record in kept)
        return self._table_of(kept, place, attribute), tuple(racks), instances

    def _labels(self, categories: Iterable[str]) -> dict[str, int]:
        """Category of the tables -> label, -1 for those of no class."""
        categories = set(categories)
        try:
            self.classes.check_categories(categories, f'{self.folder}/category.json')
            return {name: self.classes.label(name) for name in categories}
        except ValueError as error:
            raise ResultError(str(error)) from None

    def _check_attributes(self, record: dict) -> None:
        if len(record['attribute_tokens']) > 1:
            raise ResultError(
                f'{self.folder}/sample_annotation.json: {record["token"]} has more than one attribute'
            )

    def _table_of(self, kept: list, place: dict, attribute: dict) -> BoxTable:
        if not kept:
            return BoxTable.empty()

        samples, labels, records = zip(*kept, strict=True)
        attributes = [
            attribute[r['attribute_tokens'][0]] if r['attribute_tokens'] else -1 for r in records
        ]
        return BoxTable.make(
            samples,
            [r['translation'] for r in records],
            [r['size'] for r in records],
            yaw_of_quaternions(np.array([r['rotation'] for r in records])),
            [_velocity(r, place) for r in records],
            labels,
            attributes,
            None,
            [r['num_lidar_pts'] + r['num_radar_pts'] for r in records],
            [self.visibility.get(r.get('visibility_token'), 0) for r in records],
        )


def _velocity(record: dict, place: dict[str, tuple[list[float], float]]) -> tuple[float, float]:
    """Velocity (m/s, global) by the difference of neighbouring key frames.

    NaN where there is no neighbour or it is too far away.
    """
    before, after = record['prev'], record['next']
    if not before and not after:
        return np.nan, np.nan
    first_m, first_s = place[before or record['token']]
    last_m, last_s = place[after or record['token']]
    gap_s = last_s - first_s
    if gap_s > _MAX_GAP_S * (2 if before and after else 1):
        return np.nan, np.nan
    return (last_m[0] - first_m[0]) / gap_s, (last_m[1] - first_m[1]) / gap_s
