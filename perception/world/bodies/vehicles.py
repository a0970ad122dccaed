"""Low-poly bodies of four-wheeled and larger vehicles, which `shapes.fitted` stretches to their boxes.

All functions return parts in a frame with x forward, y left, z up from the ground; unit lengths are metres of
a typical specimen.
"""
from __future__ import annotations

import numpy as np

from ..scene.mesh import Mesh
from .shapes import beam, box, frustum, quad_face, wedge, wheel

_CABINS = {
    'sedan': ((-1.6, 1.0), (-1.15, 0.05), 0.95, 1.45, 0.66),
    'hatchback': ((-2.1, 1.0), (-1.9, 0.1), 0.97, 1.5, 0.66),
    'suv': ((-2.2, 1.0), (-2.1, 0.3), 1.08, 1.75, 0.78),
    'van': ((-2.22, 1.75), (-2.18, 0.9), 1.1, 1.95, 0.82),
    'pickup': ((-0.65, 1.0), (-0.55, 0.3), 1.05, 1.8, 0.8)}
"""Of each kind of car: x range of the cabin at its bottom and at its top, heights of bottom, top and nose."""
CAR_KINDS = tuple(_CABINS)
CAR_PAINTS = ('car_white', 'car_black', 'car_silver', 'car_red', 'car_blue', 'car_green')
CAR_PAINT_WEIGHTS = (0.26, 0.24, 0.24, 0.10, 0.11, 0.05)


def _axles(
    x_positions: tuple[float, ...], half_track: float, radius: float, half_width: float = 0.11
) -> list[Mesh]:
    return [wheel(x, side * half_track, radius, half_width, radius) for x in x_positions for side in (-1, 1)]


def _end_plate(x: float, y_m: tuple[float, float], z_m: tuple[float, float], material: str) -> Mesh:
    """A rectangle at x = const that faces away from the vehicle's middle."""
    low, high = sorted(y_m, reverse=x < 0)
    corners = np.array([[x, low, z_m[0]], [x, high, z_m[0]], [x, high, z_m[1]], [x, low, z_m[1]]])
    return quad_face(corners, material)


def _lights(x_front: float, x_rear: float, half_y: float, z: float, size: float = 0.22,
            plate_z: float | None = None) -> list[Mesh]:
    """Both ends' plates, just outside them.

    In front: a dark grille between broad head lights. Behind: upright tail lights at the corners with
    reflectors below them, and the number plate.

    Args:
        x_front: where the vehicle begins.
        x_rear: where it ends.
        half_y: half its width.
        z: lower edge of the lights.
        size: height of the head lights; tail lights are half as high again.
        plate_z: lower edge of the number plate; None puts it below the lights.
    """
    inner, outer = half_y - 0.42, half_y - 0.03
    grille = _end_plate(x_front + 0.01, (-inner, inner), (z - 0.2, z + size), 'grille')
    head = [_end_plate(x_front + 0.01, (side * inner, side * outer), (z, z + size), 'headlight')
            for side in (-1, 1)]
    return [grille, *head, *_tail(x_rear, half_y, z, 1.5 * size, plate_z)]


def _tail(x_rear: float, half_y: float, z: float, size: float = 0.3,
          plate_z: float | None = None) -> list[Mesh]:
    """The rear end's part of `_lights`."""
    plate_z = z - 0.16 if plate_z is None else plate_z
    parts = [_end_plate(x_rear - 0.01, (-0.28, 0.28), (plate_z, plate_z + 0.14), 'licence_plate')]
    for side in (-1, 1):
        y_m = (side * (half_y - 0.3), side * (half_y - 0.03))
        parts += [_end_plate(x_rear - 0.01, y_m, (z, z + size), 'taillight'),
                  _end_plate(x_rear - 0.01, y_m, (z - 0.2, z - 0.1), 'reflector_red')]
    return parts


def car(kind: str, paint: str) -> list[Mesh]:
    """A car of one of `CAR_KINDS`.

    Sills and bumpers, a bonnet that slopes down to the nose, a higher tail, a glazed cabin with a raked
    windscreen and a painted roof, wheels, lights.
    """
    bottom, upper, belt, top, nose = _CABINS[kind]
    half = 0.9
    middle = bottom[1] - 0.1
    sills = frustum((-2.25, 2.25), (-2.25, 2.25), half, half, (0.26, 0.5), paint)
    tail = frustum((-2.25, middle), (-2.2, middle), half, half - 0.05, (0.5, belt), paint)
    bonnet = wedge((middle, 2.25), half - 0.03, 0.5, belt, nose, paint)
    glass = frustum(bottom, upper, half - 0.07, half - 0.2, (belt, top - 0.06), 'vehicle_window')
    roof = box(upper, (0.2 - half, half - 0.2), (top - 0.06, top), paint)
    mirrors = []
    for side in (-1, 1):
        y = sorted((side * (half - 0.08), side * (half + 0.05)))
        mirrors.append(box((0.75, 0.9), y, (belt, belt + 0.14), paint))
    lights = _lights(2.25, -2.25, half, 0.52, nose - 0.54, 0.6)
    parts = [sills, tail, bonnet, glass, roof, *mirrors, *_axles((-1.38, 1.38), half - 0.13, 0.33), *lights]

    # the load bed: a dark floor between two side walls
    if kind == 'pickup':
        floor_z = (belt - 0.02, belt + 0.01)
        parts.append(box((-2.2, -0.7), (-half + 0.08, half - 0.08), floor_z, 'chassis_dark'))
        parts += [box((-2.22, -0.7), sorted((side * (half - 0.1), side * half)), (belt, belt + 0.18), paint)
                  for side in (-1, 1)]
    return parts


def truck(paint: str, kind: str = 'box') -> list[Mesh]:
    """A lorry: cab with a windscreen, chassis, and a box, a flatbed or a tipper body."""
    parts = [box((1.6, 3.2), (-1.12, 1.12), (0.55, 1.5), paint),
             frustum((1.6, 3.2), (1.65, 2.75), 1.1, 1.02, (1.5, 2.35), 'vehicle_window'),
             box((1.65, 2.75), (-1.02, 1.02), (2.35, 2.45), paint),
             box((-3.2, 1.6), (-0.45, 0.45), (0.55, 0.85), 'chassis_dark'),
             *_axles((-2.0, 2.3), 0.98, 0.46, 0.16), *_lights(3.2, -3.2, 1.0, 0.7)]

    # what it carries
    if kind == 'box':
        parts += [box((-3.2, 1.45), (-1.2, 1.2), (0.85, 3.0), 'truck_white'),
                  _end_plate(-3.22, (-1.15, 1.15), (0.95, 1.15), 'reflector_red')]
    elif kind == 'tipper':
        parts.append(frustum((-2.9, 1.3), (-3.2, 1.45), 0.95, 1.2, (0.85, 2.1), 'truck_orange'))
    else:
        parts += [box((-3.2, 1.45), (-1.2, 1.2), (0.85, 1.0), 'fence_wood'),
                  box((1.35, 1.45), (-1.2, 1.2), (1.0, 2.0), 'chassis_dark'),
                  box((-2.4, 0.4), (-0.8, 0.8), (1.0, 1.7), 'fence_wood')]
    return parts


def bus(paint: str) -> list[Mesh]:
    """A city bus: hull, a band of windows all around, roof unit, wheels, doors' glass."""
    return [box((-5.6, 5.6), (-1.3, 1.3), (0.35, 1.35), paint),
            frustum((-5.58, 5.58), (-5.55, 5.45), 1.27, 1.22, (1.35, 2.55), 'vehicle_window'),
            box((-5.57, 5.45), (-1.27, 1.27), (2.55, 3.0), paint),
            box((-3.5, 1.0), (-0.8, 0.8), (3.0, 3.25), 'truck_white'),
            *[box((x, x + 0.14), (-1.29, 1.29), (1.3, 2.6), paint) for x in (-5.5, -3.0, -0.5, 2.0, 4.6)],
            _end_plate(5.62, (-1.1, 1.1), (1.0, 1.4), 'vehicle_window'),
            _end_plate(-5.62, (-1.25, 1.25), (1.3, 2.55), paint),
            _end_plate(-5.63, (-0.8, 0.8), (1.0, 1.6), 'grille'),
            *_axles((-3.3, 3.6), 1.15, 0.48, 0.15), *_lights(5.6, -5.6, 1.25, 0.65, 0.2)]


def trailer(kind: str = 'box') -> list[Mesh]:
    """A semi-trailer: a closed box or a container frame on two or three axles at the rear, legs in front."""
    body = (box((-5.0, 5.0), (-1.25, 1.25), (1.15, 3.8), 'trailer_grey') if kind == 'box' else
            box((-4.9, 4.7), (-1.22, 1.22), (1.2, 3.7), 'plaster_blue'))
    return [body, box((-5.0, 5.0), (-0.5, 0.5), (0.8, 1.15), 'chassis_dark'),
            *_axles((-4.2, -3.0), 1.05, 0.5, 0.18),
            *[box((2.6, 2.8), (y - 0.1, y + 0.1), (0.0, 1.0), 'chassis_dark') for y in (-0.7, 0.7)],
            _end_plate(-5.02, (-1.2, 1.2), (1.6, 1.85), 'reflector_red'), *_tail(-5.0, 1.2, 1.0)]


def small_trailer() -> list[Mesh]:
    """A two-wheeled trailer with a drawbar."""
    return [frustum((-1.7, 1.1), (-1.75, 1.15), 0.9, 0.95, (0.5, 1.5), 'trailer_grey'),
            beam((1.1, 0, 0.5), (2.2, 0, 0.45), 0.06, 0.06, 'chassis_dark'),
            *_axles((-0.4,), 0.85, 0.32), *_tail(-1.75, 0.9, 0.7)]


def excavator() -> list[Mesh]:
    """A tracked excavator: crawlers, turntable, cab, counterweight, boom, arm and bucket."""
    crawlers = [frustum((-1.6, 1.6), (-1.3, 1.3), 0.28, 0.28, (0.0, 0.8), 'chassis_dark') for _ in (0, 1)]
    shifts = [np.eye(4), np.eye(4)]
    shifts[0][1, 3], shifts[1][1, 3] = -1.05, 1.05
    return [*[crawler.transform(shift) for crawler, shift in zip(crawlers, shifts, strict=True)],
            box((-0.6, 0.6), (-0.9, 0.9), (0.5, 0.95), 'chassis_dark'),
            box((-1.9, 1.1), (-1.25, 1.25), (0.95, 1.75), 'construction_yellow'),
            box((-1.95, -1.3), (-1.2, 1.2), (1.0, 2.1), 'chassis_dark'),
            frustum((-0.4, 1.1), (-0.3, 0.8), 0.45, 0.42, (1.75, 2.85), 'vehicle_window').transform(
                np.array([[1, 0, 0, 0], [0, 1, 0, 0.75], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
            box((-0.35, 0.85), (0.3, 1.2), (2.85, 2.95), 'construction_yellow'),
            beam((0.8, -0.2, 1.5), (2.6, -0.2, 3.1), 0.18, 0.24, 'construction_yellow'),
            beam((2.6, -0.2, 3.1), (3.5, -0.2, 1.2), 0.15, 0.2, 'construction_yellow'),
            frustum((3.1, 3.8), (3.2, 3.6), 0.5, 0.5, (0.4, 1.2), 'chassis_dark')]


def loader() -> list[Mesh]:
    """A wheel loader: rear engine, cab, big wheels, lifted shovel."""
    return [box((-3.0, -0.6), (-0.9, 0.9), (0.9, 1.9), 'construction_yellow'),
            frustum((-0.9, 0.5), (-0.8, 0.3), 0.75, 0.7, (1.6, 2.9), 'vehicle_window'),
            box((-0.9, 0.4), (-0.8, 0.8), (2.9, 3.05), 'construction_yellow'),
            box((-0.6, 1.8), (-0.55, 0.55), (0.7, 1.4), 'construction_yellow'),
            *[beam((1.0, y, 1.3), (2.6, y, 0.8), 0.1, 0.14, 'construction_yellow') for y in (-0.5, 0.5)],
            frustum((2.5, 3.4), (2.4, 2.9), 1.2, 1.2, (0.2, 1.2), 'chassis_dark'),
            *_axles((-1.9, 1.2), 0.95, 0.7, 0.25)]


def ambulance() -> list[Mesh]:
    """A white van with red stripes and a light bar."""
    stripe = [box((-2.1, 1.2), sorted((side * 0.9, side * 0.92)), (0.95, 1.1), 'bus_red') for side in (-1, 1)]
    return [*car('van', 'truck_white'), *stripe, box((0.6, 0.9), (-0.6, 0.6), (1.95, 2.1), 'car_blue')]
