"""Which scenes a world has: names, split, location and weather of each, known before anything is made.

Scene names come from nuScenes' own train and val lists, so that the official evaluation finds the split of a
scene by its name. Validation scenes lie in a city no training scene visits.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.protocols import SPLIT_LISTS

TRAIN_LOCATIONS = ('boston-seaport', 'singapore-onenorth', 'singapore-queenstown')
VAL_LOCATION = 'singapore-hollandvillage'
LOCATIONS = (*TRAIN_LOCATIONS, VAL_LOCATION)
VERSIONS = ('v1.0-trainval', 'v1.0-mini')
SPLITS = ('default', 'train', 'val')
WEATHER_CYCLE = ('day', 'night', 'day', 'rain', 'dusk', 'day')
"""Half the scenes by day; nuScenes has about 12 % at night and 20 % in rain, small worlds need each of them
at all."""
TRAIN_SCENES_PER_VAL_SCENE = 5
SCENES_FOR_TWO_IN_VAL = 12

SCENES_WITHOUT_CAN_BUS = frozenset((*range(161, 169), *range(170, 177), *range(309, 315)))
"""Scene numbers for which the devkit refuses CAN-bus messages; a world does not use these names."""


@dataclass(frozen=True)
class ScenePlan:
    """One scene to be made.

    Attributes:
        name: nuScenes scene name, for example `scene-0001`.
        split: `train` or `val`.
        location: the city.
        index: number of the scene among those of its city, from 0.
        weather: `day`, `dusk`, `night` or `rain`.
    """

    name: str
    split: str
    location: str
    index: int
    weather: str


def split_counts(scenes: int, split: str) -> tuple[int, int]:
    """Number of training and validation scenes; `default` gives about a sixth to validation, at least one.

    Raises:
        ValueError: for an unknown split or fewer scenes than the split needs.
    """
    if split not in SPLITS:
        raise ValueError(f'split: found {split!r}, expected one of {", ".join(SPLITS)}')
    least = 2 if split == 'default' else 1
    if scenes < least:
        raise ValueError(f'scenes: found {scenes}, expected at least {least} for split {split!r}')
    if split != 'default':
        return (scenes, 0) if split == 'train' else (0, scenes)
    val = max(1, round(scenes / (TRAIN_SCENES_PER_VAL_SCENE + 1)))
    val = max(val, 2) if scenes >= SCENES_FOR_TWO_IN_VAL else val
    return scenes - val, val


def read_split_list(name: str) -> list[str]:
    """Scene names of `perception/core/splits/<name>.txt` in file order.

    Raises:
        FileNotFoundError: when there is no such list.
    """
    path = SPLIT_LISTS / f'{name}.txt'
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such split list')
    return path.read_text(encoding='utf-8').split()


def usable_names(version: str, split: str) -> list[str]:
    """Scene names a world of this version may use in a split, in the order they are used.

    Raises:
        ValueError: for a version other than those in `VERSIONS`.
    """
    if version not in VERSIONS:
        raise ValueError(f'version: found {version!r}, expected one of {", ".join(VERSIONS)}')
    listed = read_split_list(f'nuscenes_{"mini_" if version.endswith("mini") else ""}{split}')
    return [name for name in listed if int(name.removeprefix('scene-')) not in SCENES_WITHOUT_CAN_BUS]


def plan_scenes(scenes: int, split: str = 'default', version: str = VERSIONS[0]) -> list[ScenePlan]:
    """The scenes of a world, training before validation.

    Raises:
        ValueError: for a bad count, split or version, or more scenes than the official lists have names.
    """
    train, val = split_counts(scenes, split)
    train_plans = _plan_split('train', train, TRAIN_LOCATIONS, version)
    return train_plans + _plan_split('val', val, (VAL_LOCATION,), version)


def _plan_split(split: str, count: int, locations: tuple[str, ...], version: str) -> list[ScenePlan]:
    names = usable_names(version, split)
    if count > len(names):
        raise ValueError(
            f'scenes: found {count} for {split}, expected at most {len(names)} with version {version!r}'
        )

    # scene after scene goes to the next city
    cities = len(locations)
    return [ScenePlan(names[i], split, locations[i % cities], i // cities, _weather(i, cities))
            for i in range(count)]


def _weather(scene: int, locations: int) -> str:
    """Walks the cycle so that every city of a split meets every weather."""
    return WEATHER_CYCLE[(scene + scene // len(WEATHER_CYCLE) * (locations > 1)) % len(WEATHER_CYCLE)]
