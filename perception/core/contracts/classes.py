"""Which classes a model detects, and what they are made of: nuScenes' ten, or a set of one's own.

Every record with labels says what they mean: `BoxLabels.classes`, `Boxes3D.classes`. So data, head, metric
and drawing cannot disagree without a word.
"""
from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..protocols import (
    ATTRIBUTES,
    CATEGORY_TO_CLASS,
    DETECTION_CLASSES,
    DETECTION_RANGES_M,
    HALF_TURN_CLASSES,
    LIDARSEG_CATEGORIES,
    TRACKING_CLASSES,
)

FIELD = 'detection_classes'
"""Key of a configuration that names the classes: {name: fields of `DetectionClass`}."""

HEADINGS = ('full', 'half', 'none')
ATTRIBUTE_FAMILIES = ('pedestrian', 'cycle', 'vehicle')
TWO_WHEELERS = ('vehicle.bicycle', 'vehicle.motorcycle')
KNOWN_CATEGORIES = LIDARSEG_CATEGORIES[:LIDARSEG_CATEGORIES.index('flat.driveable_surface')]
"""nuScenes' categories of boxes."""

_MOST_CLASSES = 100
_NUSCENES = 'nuscenes'


@dataclass(frozen=True)
class DetectionClass:
    """One class of objects.

    Attributes:
        name: a word.
        categories: names of annotation categories; their boxes are of this class. A class of nuScenes' ten
            stands for all its categories.
        range_m: distance from the car within which the metric counts it.
        attributes: families of nuScenes' attributes that it may have, out of `ATTRIBUTE_FAMILIES`. A class
            without any has no attribute error.
        heading: 'full', 'half' (no front: yaw and yaw + pi are one), 'none' (no orientation error).
        moves: whether the metric counts errors of its velocity.
        tracked: whether the tracking metric counts it.
        crowded: its objects stand so close together that two of them have neighbouring cells.
        nms_radius_m: two of its boxes whose centres are closer are one object.
        gate_m: how far a detection may lie from where its track is expected half a second later.
        colour: RGB 0..255 of its boxes; None takes that of a class of this name, or a free one.

    Raises:
        ValueError: names the field, what was found and what was expected.
    """

    name: str
    categories: tuple[str, ...]
    range_m: float = 50.0
    attributes: tuple[str, ...] = ()
    heading: str = 'full'
    moves: bool = True
    tracked: bool = True
    crowded: bool = False
    nms_radius_m: float = 2.0
    gate_m: float = 4.0
    colour: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for name in ('categories', 'attributes'):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        if not self.categories:
            raise ValueError('categories: expected at least one annotation category, found none')
        if unknown := [name for name in self.attributes if name not in ATTRIBUTE_FAMILIES]:
            raise ValueError(
                f'attributes: expected some of {", ".join(ATTRIBUTE_FAMILIES)}, found {unknown[0]!r}'
                f'{_hint(unknown[0], ATTRIBUTE_FAMILIES)}')

        if self.heading not in HEADINGS:
            raise ValueError(f'heading: expected one of {", ".join(HEADINGS)}, found {self.heading!r}')
        for name in ('moves', 'tracked', 'crowded'):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f'{name}: expected True or False, found {getattr(self, name)!r}')
        for name in ('range_m', 'nms_radius_m', 'gate_m'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e4:
                raise ValueError(f'{name}: expected metres above 0, found {value!r}')
        if self.colour is not None:
            object.__setattr__(self, 'colour', _colour(self.colour))


@dataclass(frozen=True)
class DetectionClasses:
    """The classes of a model in the order of their labels.

    Raises:
        ValueError: no class or too many, a name twice, a category in two classes.
    """

    classes: tuple[DetectionClass, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.classes) <= _MOST_CLASSES:
            raise ValueError(f'expected 1 to {_MOST_CLASSES} classes, found {len(self.classes)}')
        for name in self.names:
            if not isinstance(name, str) or not name.isidentifier() or name == 'all':
                raise ValueError(f"expected names of letters, digits and '_', and not 'all', found {name!r}")

        owner: dict[str, str] = {}
        for c in self.classes:
            for category in _expanded(c.categories):
                if owner.setdefault(category, c.name) != c.name:
                    raise ValueError(
                        f'{c.name}.categories: {category!r} is in {owner[category]} too, expected each '
                        'category in one class')

    def __len__(self) -> int:
        return len(self.classes)

    def __reduce__(self) -> tuple[Any, ...]:
        # labels travel between processes sample by sample: a word, and one record a process
        return DetectionClasses.from_text, (self.to_text(),)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the labels."""
        return tuple(c.name for c in self.classes)

    @cached_property
    def label_of(self) -> dict[str, int]:
        """Name -> label."""
        return {name: label for label, name in enumerate(self.names)}

    @property
    def is_nuscenes(self) -> bool:
        """Whether these are nuScenes' ten, for which there are official scores and files."""
        return self == NUSCENES_CLASSES

    @cached_property
    def _label_of_category(self) -> dict[str, int]:
        known = {
            category: label for label, c in enumerate(self.classes) for category in _expanded(c.categories)}

        # data sets of other make have the ten classes themselves as categories
        for name in DETECTION_CLASSES:
            labels = {known.get(category, -1) for category in _categories_of(name)}
            if name not in known and len(labels) == 1:
                known[name] = labels.pop()
        return known

    def label(self, category: str) -> int:
        """Label of an annotation category, or of one of nuScenes' ten classes; -1 for what is not detected.

        Raises:
            ValueError: one of the ten classes, whose categories these classes tell apart.
        """
        label = self._label_of_category.get(category)
        if label is None and category in DETECTION_CLASSES:
            raise ValueError(
                f'{FIELD}: boxes of {category!r} may be of several classes, since {_categories_of(category)} '
                'are not in one; expected annotations with nuScenes categories')
        return -1 if label is None else label

    def check_categories(self, occurring: Iterable[str], where: str) -> None:
        """Refuse a category that no annotation can have.

        Args:
            occurring: categories of the data beside nuScenes' own.
            where: they were looked for, for the message.

        Raises:
            ValueError: names the field, the category and the nearest known one.
        """
        known = {*occurring, *KNOWN_CATEGORIES, *DETECTION_CLASSES}
        for c in self.classes:
            for k, category in enumerate(c.categories):
                if category not in known:
                    raise ValueError(
                        f'{FIELD}.{c.name}.categories[{k}]: found {category!r}, expected a category of '
                        f'nuScenes or of {where}{_hint(category, known)}')

    @cached_property
    def unusual_categories(self) -> tuple[str, ...]:
        """Those that are no category and no class of nuScenes, so that the data must have them."""
        known = {*KNOWN_CATEGORIES, *DETECTION_CLASSES}
        return tuple(name for c in self.classes for name in c.categories if name not in known)

    # ---------------------------------------------------------------- by label

    @cached_property
    def valid_attributes(self) -> np.ndarray:
        """Which of `ATTRIBUTES` a class may have: bool `(K, 8)`."""
        return np.array([[a.split('.')[0] in c.attributes for a in ATTRIBUTES] for c in self.classes])

    @cached_property
    def is_half_turn(self) -> np.ndarray:
        """Classes that look the same from both ends: bool `(K,)`."""
        return np.array([c.heading == 'half' for c in self.classes])

    @cached_property
    def is_vehicle(self) -> np.ndarray:
        """Classes with a category `vehicle.*`, whose ground is the map's class 'vehicle': bool `(K,)`."""
        found = [[n.startswith('vehicle.') for n in _expanded(c.categories)] for c in self.classes]
        return np.array([any(of_class) for of_class in found])

    @cached_property
    def is_two_wheeled(self) -> np.ndarray:
        """Classes of bicycles and motorcycles alone, which do not count in a rack: bool `(K,)`."""
        allowed = {*TWO_WHEELERS, 'bicycle', 'motorcycle'}
        return np.array([set(c.categories) <= allowed for c in self.classes])

    @cached_property
    def tracked(self) -> tuple[str, ...]:
        """Names of the classes that the tracking metric counts, in the order of the alphabet."""
        return tuple(sorted(c.name for c in self.classes if c.tracked))

    # ---------------------------------------------------------------- as data

    @staticmethod
    def of(
        given: DetectionClasses | Mapping[str, Mapping[str, Any]] | None, where: str = FIELD
    ) -> DetectionClasses:
        """The classes that a configuration names; None gives nuScenes' ten.

        Args:
            given: {name: fields of `DetectionClass`}, in the order of the labels.
            where: file and field, for messages.

        Raises:
            ValueError: names the class, the field, what was found and what was expected.
        """
        if given is None or isinstance(given, DetectionClasses):
            return given or NUSCENES_CLASSES
        if not isinstance(given, Mapping):
            raise ValueError(f'{where}: expected {{name: fields of a class}}, found {given!r:.80}')

        classes = tuple(_class_of(name, options, f'{where}.{name}') for name, options in given.items())
        try:
            found = DetectionClasses(classes)
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from None
        return NUSCENES_CLASSES if found == NUSCENES_CLASSES else found

    def as_data(self) -> dict[str, dict[str, Any]]:
        """Plain values that `of` reads."""
        records = (asdict(c) for c in self.classes)
        return {record.pop('name'): record for record in records}

    def to_text(self) -> str:
        """One line that `from_text` reads: a word for nuScenes' ten, else JSON."""
        return _NUSCENES if self.is_nuscenes else json.dumps(self.as_data())

    @staticmethod
    @lru_cache(maxsize=64)
    def from_text(text: str) -> DetectionClasses:
        """Inverse of `to_text`.

        Raises:
            ValueError: the text is none.
        """
        if text == _NUSCENES:
            return NUSCENES_CLASSES
        try:
            return DetectionClasses.of(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f'{FIELD}: not valid: {error}') from None


def check_same_classes(
    found: DetectionClasses, expected: DetectionClasses, whose: Sequence[str]
) -> None:
    """Raise ValueError unless two records have labels of the same classes.

    Args:
        found: of the one record.
        expected: of the other.
        whose: names of the two, for the message.
    """
    if found != expected:
        same_names = ' with other fields' if found.names == expected.names else ''
        raise ValueError(
            f'{whose[0]}: found labels of the classes {", ".join(found.names)}{same_names}, expected those '
            f'of {whose[1]}: {", ".join(expected.names)} (key {FIELD} of the configuration)')


def _class_of(name: str, options: Any, where: str) -> DetectionClass:
    if not isinstance(options, Mapping):
        raise ValueError(f'{where}: expected the fields of a class, found {options!r:.80}')
    known = [f.name for f in fields(DetectionClass) if f.name != 'name']
    for key in options:
        if key not in known:
            raise ValueError(f'{where}: unknown field {key!r}{_hint(key, known)}')
    if 'categories' not in options:
        raise ValueError(f'{where}.categories: missing, expected names of annotation categories')
    try:
        return DetectionClass(name, **options)
    except ValueError as error:
        raise ValueError(f'{where}.{error}') from None


def _hint(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`; '' where no name is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f'; did you mean {close[0]!r}?' if close else ''


def _words(field: str, value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or not all(isinstance(name, str) for name in value):
        raise ValueError(f'{field}: expected a list of names, found {value!r:.80}')
    return tuple(value)


def _colour(value: Any) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(numbers) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in numbers):
        raise ValueError(f'colour: expected red, green and blue of 0 to 255, found {value!r:.80}')
    return numbers


def _categories_of(name: str) -> tuple[str, ...]:
    """Categories of nuScenes that make one of the ten classes."""
    return tuple(category for category, of in CATEGORY_TO_CLASS.items() if of == name)


def _expanded(categories: Iterable[str]) -> list[str]:
    """Names of the ten classes replaced by their categories, which they also stay themselves."""
    found: list[str] = []
    for name in categories:
        found += [name, *_categories_of(name)] if name in DETECTION_CLASSES else [name]
    return found


def _nuscenes() -> DetectionClasses:
    """The ten of the detection task (`detection_cvpr_2019`) and of the tracking task.

    Families of attributes: nuScenes. Radii: CenterPoint's (Yin et al. 2021, arXiv 2006.11275), which gives
    their squares. Gates: its 99.9th percentiles of the error in velocity, where it has them.
    """
    families = {'pedestrian': ('pedestrian',), 'motorcycle': ('cycle',), 'bicycle': ('cycle',),
                'traffic_cone': (), 'barrier': ()}
    headings = {'traffic_cone': 'none'} | dict.fromkeys(HALF_TURN_CLASSES, 'half')
    radius_m = {
        'car': 2.0, 'truck': 3.46, 'construction_vehicle': 3.46, 'bus': 3.16, 'trailer': 3.16, 'barrier': 1.0,
        'motorcycle': 0.92, 'bicycle': 0.92, 'pedestrian': 0.42, 'traffic_cone': 0.42}
    gate_m = {'bus': 5.5, 'trailer': 3.0, 'pedestrian': 1.0, 'motorcycle': 13.0, 'bicycle': 3.0,
              'traffic_cone': 1.0, 'barrier': 1.0}

    return DetectionClasses(tuple(
        DetectionClass(
            name, _categories_of(name), range_m, families.get(name, ('vehicle',)), headings.get(name, 'full'),
            moves=name not in ('traffic_cone', 'barrier'), tracked=name in TRACKING_CLASSES,
            crowded=name in ('pedestrian', 'traffic_cone', 'barrier'), nms_radius_m=radius_m[name],
            gate_m=gate_m.get(name, 4.0))
        for name, range_m in zip(DETECTION_CLASSES, DETECTION_RANGES_M, strict=True)))


NUSCENES_CLASSES = _nuscenes()
