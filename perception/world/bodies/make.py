"""One body per category: low-poly, heading-dependent, exactly as large as its box."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scene.mesh import Mesh
from . import small, vehicles
from .shapes import fitted

CATEGORIES = ('vehicle.car', 'vehicle.truck', 'vehicle.bus.rigid', 'vehicle.trailer', 'vehicle.construction',
              'vehicle.motorcycle', 'vehicle.bicycle', 'human.pedestrian.adult', 'human.pedestrian.child',
              'human.pedestrian.construction_worker', 'movable_object.trafficcone', 'movable_object.barrier',
              'movable_object.debris', 'movable_object.pushable_pullable', 'static_object.bicycle_rack',
              'vehicle.emergency.ambulance')

_MOVABLE_OBJECTS = {
    'movable_object.trafficcone': small.traffic_cone, 'movable_object.barrier': small.barrier,
    'movable_object.debris': small.debris, 'movable_object.pushable_pullable': small.wheeled_bin}


def _pick(rng: np.random.Generator, names: Sequence[str], weights: Sequence[float] | None = None) -> str:
    return names[int(rng.choice(len(names), p=weights))]


def _person(category: str, pose: str, rng: np.random.Generator) -> list[Mesh]:
    shirt = _pick(rng, small.CLOTHES)
    trousers = _pick(rng, ('cloth_dark', 'cloth_blue', 'cloth_light'))
    if pose == 'sitting':
        return small.sitting_person(shirt, trousers)

    stride = rng.uniform(0.24, 0.34) if pose == 'walking' else 0.05
    if category.endswith('construction_worker'):
        return small.pedestrian('vest_orange', trousers, 'helmet', stride)
    pack = _pick(rng, ('', 'cloth_dark', 'cloth_red'), (0.55, 0.3, 0.15))
    return small.pedestrian(shirt, trousers, 'hair_dark', stride, pack)


def _car_kinds(size_lwh_m: Sequence[float]) -> tuple[str, ...]:
    """The kinds of car whose proportions suit a box."""
    if size_lwh_m[2] > 1.85:
        return ('van', 'suv')
    return ('suv', 'pickup') if size_lwh_m[0] > 5.0 else ('sedan', 'hatchback', 'suv')


def _vehicle(category: str, size_lwh_m: Sequence[float], rng: np.random.Generator) -> list[Mesh]:
    if category == 'vehicle.car':
        paint = _pick(rng, vehicles.CAR_PAINTS, vehicles.CAR_PAINT_WEIGHTS)
        return vehicles.car(_pick(rng, _car_kinds(size_lwh_m)), paint)
    if category == 'vehicle.truck':
        paint = _pick(rng, ('truck_white', 'truck_orange', 'car_blue', 'car_red'))
        return vehicles.truck(paint, _pick(rng, ('box', 'box', 'flatbed', 'tipper')))
    if category.startswith('vehicle.bus'):
        return vehicles.bus(_pick(rng, ('bus_red', 'bus_green', 'truck_white')))

    if category == 'vehicle.trailer' and size_lwh_m[0] < 6:
        return vehicles.small_trailer()
    if category == 'vehicle.trailer':
        return vehicles.trailer(_pick(rng, ('box', 'container')))
    if category == 'vehicle.construction':
        return _pick(rng, (vehicles.excavator, vehicles.loader))()
    return vehicles.ambulance()


def make_body(category: str, size_lwh_m: Sequence[float], rng: np.random.Generator, pose: str = '') -> Mesh:
    """The mesh of one object in its object frame (x forward, origin at the box centre).

    Args:
        category: one of `CATEGORIES`.
        size_lwh_m: length, width, height of the box; the mesh touches all six sides.
        rng: draws type and colours.
        pose: 'rider' or '' for cycles; 'walking', 'standing' or 'sitting' for people.

    Raises:
        ValueError: the category has no body.
    """
    if category not in CATEGORIES:
        raise ValueError(f'make_body: category must be one of {CATEGORIES}, found {category!r}')

    if category.startswith('human'):
        parts = _person(category, pose, rng)
    elif category == 'vehicle.bicycle':
        parts = small.bicycle(pose == 'rider', _pick(rng, small.CLOTHES))
    elif category == 'vehicle.motorcycle':
        parts = small.motorcycle(pose == 'rider', _pick(rng, ('car_red', 'car_blue', 'car_black')))
    elif category.startswith('vehicle'):
        parts = _vehicle(category, size_lwh_m, rng)
    elif category == 'static_object.bicycle_rack':
        parts = small.bicycle_rack(max(2, round(size_lwh_m[0])))
    else:
        parts = _MOVABLE_OBJECTS[category]()

    return fitted(parts, size_lwh_m)
