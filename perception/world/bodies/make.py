"""One body per category: low-poly, heading-dependent, exactly as large as its box."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scene.mesh import Mesh
from . import small as bodies_small
from . import vehicles as bodies_vehicles
from .shapes import fitted

CATEGORIES = ('vehicle.car', 'vehicle.truck', 'vehicle.bus.rigid', 'vehicle.trailer', 'vehicle.construction',
              'vehicle.motorcycle', 'vehicle.bicycle', 'human.pedestrian.adult', 'human.pedestrian.child',
              'human.pedestrian.construction_worker', 'movable_object.trafficcone', 'movable_object.barrier',
              'movable_object.debris', 'movable_object.pushable_pullable', 'static_object.bicycle_rack',
              'vehicle.emergency.ambulance')


def _pick(rng: np.random.Generator, names: Sequence[str], share: Sequence[float] | None = None) -> str:
    return names[int(rng.choice(len(names), p=share))]


def _person(category: str, pose: str, rng: np.random.Generator) -> list[Mesh]:
    shirt, trousers = (
        _pick(rng, bodies_small.CLOTHES), _pick(rng, ('cloth_dark', 'cloth_blue', 'cloth_light')))
    if pose == 'sitting':
        return bodies_small.sitting_person(shirt, trousers)
    stride = rng.uniform(0.24, 0.34) if pose == 'walking' else 0.05
    if category.endswith('construction_worker'):
        return bodies_small.pedestrian('vest_orange', trousers, 'helmet', stride)
    return bodies_small.pedestrian(shirt, trousers, 'hair_dark', stride)


def _vehicle(category: str, size_lwh_m: Sequence[float], rng: np.random.Generator) -> list[Mesh]:
    if category == 'vehicle.car':
        kinds = ('van', 'suv') if size_lwh_m[2] > 1.85 else (
            ('suv', 'pickup') if size_lwh_m[0] > 5.0 else ('sedan', 'hatchback', 'suv'))
        paint = _pick(rng, bodies_vehicles.CAR_PAINTS, bodies_vehicles.CAR_PAINT_WEIGHTS)
        return bodies_vehicles.car(_pick(rng, kinds), paint)
    if category == 'vehicle.truck':
        paint = _pick(rng, ('truck_white', 'truck_orange', 'car_blue', 'car_red'))
        return bodies_vehicles.truck(paint, _pick(rng, ('box', 'box', 'flatbed', 'tipper')))
    if category.startswith('vehicle.bus'):
        return bodies_vehicles.bus(_pick(rng, ('bus_red', 'bus_green', 'truck_white')))
    if category == 'vehicle.trailer':
        return bodies_vehicles.small_trailer() if size_lwh_m[0] < 6 else bodies_vehicles.trailer(
            _pick(rng, ('box', 'container')))
    if category == 'vehicle.construction':
        return _pick(rng, (bodies_vehicles.excavator, bodies_vehicles.loader))()
    return bodies_vehicles.ambulance()


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
        parts = bodies_small.bicycle(pose == 'rider', _pick(rng, bodies_small.CLOTHES))
    elif category == 'vehicle.motorcycle':
        parts = bodies_small.motorcycle(pose == 'rider', _pick(rng, ('car_red', 'car_blue', 'car_black')))
    elif category.startswith('vehicle'):
        parts = _vehicle(category, size_lwh_m, rng)
    elif category == 'static_object.bicycle_rack':
        parts = bodies_small.bicycle_rack(max(2, round(size_lwh_m[0])))
    else:
        parts = {'movable_object.trafficcone': bodies_small.traffic_cone,
                 'movable_object.barrier': bodies_small.barrier, 'movable_object.debris': bodies_small.debris,
                 'movable_object.pushable_pullable': bodies_small.wheeled_bin}[category]()
    return fitted(parts, size_lwh_m)
