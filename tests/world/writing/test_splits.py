"""Which scenes a world has."""

import pytest

from perception.world.writing.splits import (
    SCENES_WITHOUT_CAN_BUS,
    VAL_LOCATION,
    plan_scenes,
    read_split_list,
    split_counts,
)


@pytest.mark.parametrize(
    ('scenes', 'expected'), [(2, (1, 1)), (3, (2, 1)), (6, (5, 1)), (12, (10, 2)), (60, (50, 10))]
)
def test_a_sixth_of_the_scenes_validates(scenes, expected):
    assert split_counts(scenes, 'default') == expected


def test_validation_lies_in_a_city_of_its_own():
    plans = plan_scenes(24)
    assert {p.location for p in plans if p.split == 'val'} == {VAL_LOCATION}
    assert len({p.location for p in plans if p.split == 'train'}) == 3
    assert VAL_LOCATION not in {p.location for p in plans if p.split == 'train'}


def test_weathers_are_spread_over_cities_and_splits():
    plans = plan_scenes(36)
    assert {p.weather for p in plans if p.split == 'val'} == {'day', 'night', 'rain', 'dusk'}
    for location in {p.location for p in plans}:
        assert len({p.weather for p in plans if p.location == location}) >= 3


def test_scenes_are_distinct_and_growing_a_world_keeps_its_first_scenes():
    small, large = plan_scenes(12), plan_scenes(24)
    assert len({(p.location, p.index) for p in large}) == len({p.name for p in large}) == 24
    assert set(small) <= set(large)


def test_names_are_the_devkits_own():
    splits = pytest.importorskip('nuscenes.utils.splits')
    for name in ('train', 'val', 'mini_train', 'mini_val'):
        assert read_split_list(f'nuscenes_{name}') == getattr(splits, name)
    for plan in plan_scenes(300):
        assert plan.name in getattr(splits, plan.split)


def test_names_for_which_the_devkit_refuses_can_bus_are_not_used(tmp_path):
    can_bus_api = pytest.importorskip('nuscenes.can_bus.can_bus_api')
    (tmp_path / 'can_bus').mkdir()
    assert set(can_bus_api.NuScenesCanBus(str(tmp_path)).can_blacklist) == SCENES_WITHOUT_CAN_BUS
    assert not {int(p.name[-4:]) for p in plan_scenes(600, 'train')} & SCENES_WITHOUT_CAN_BUS


@pytest.mark.parametrize(('arguments', 'message'), [
    ((1,), 'scenes: found 1, expected at least 2'), ((0, 'train'), 'scenes: found 0, expected at least 1'),
    ((4, 'test'), "split: found 'test', expected one of default, train, val"),
    ((4, 'default', 'v1.0-test'), "version: found 'v1.0-test'"),
    ((900, 'val'), 'scenes: found 900 for val, expected at most')])
def test_bad_plans_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_scenes(*arguments)
