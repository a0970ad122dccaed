"""Low-poly bodies of people, cycles and movable objects; see `vehicles` for the conventions."""
from __future__ import annotations

import numpy as np

from ..scene.mesh import Mesh
from .shapes import ball, beam, box, frustum, prism, wheel

CLOTHES = ('cloth_dark', 'cloth_red', 'cloth_light', 'cloth_blue')


def _shifted(mesh: Mesh, y_m: float) -> Mesh:
    matrix = np.eye(4)
    matrix[1, 3] = y_m
    return mesh.transform(matrix)


def pedestrian(shirt: str, trousers: str, hat: str, stride_m: float = 0.32, pack: str = '') -> list[Mesh]:
    """A person 1.75 m tall who walks or, with a short stride, stands.

    Front and back differ: the body leans forward, forearms and feet point ahead, the hair covers the back of
    the head, and some carry a `pack` (its material) on their back.
    """
    limbs = []
    lean = 0.03 + 0.15 * stride_m
    for side, swing in ((-1, 1), (1, -1)):
        # an arm swings against the leg of its side; the elbow is bent
        elbow = (-swing * 0.5 * stride_m, 0, 1.08)
        leg = beam((0.0, 0, 0.88), (swing * stride_m, 0, 0.04), 0.07, 0.08, trousers)
        arm = beam((lean, 0, 1.38), elbow, 0.05, 0.05, shirt)
        forearm = beam(elbow, (elbow[0] + 0.24, 0, 1.06), 0.04, 0.045, 'skin')
        shoe = box((swing * stride_m - 0.07, swing * stride_m + 0.2),
                   (side * 0.1 - 0.05, side * 0.1 + 0.05), (0.0, 0.08), 'chassis_dark')
        limbs += [_shifted(leg, side * 0.1), *(_shifted(part, side * 0.25) for part in (arm, forearm)), shoe]

    trunk = frustum((-0.11, 0.11), (lean - 0.12, lean + 0.12), 0.16, 0.22, (0.82, 1.45), shirt)
    head = ball((lean + 0.03, 0, 1.6), (0.1, 0.09, 0.12), 'skin')
    hair = frustum((lean - 0.1, lean - 0.01), (lean - 0.08, lean + 0.08), 0.1, 0.08, (1.53, 1.75), hat)
    bag = [box((lean - 0.32, lean - 0.09), (-0.16, 0.16), (0.95, 1.4), pack)] if pack else []
    return [*limbs, trunk, head, hair, *bag]


def sitting_person(shirt: str, trousers: str) -> list[Mesh]:
    """A person who sits, 1.3 m tall."""
    legs = [_shifted(beam((0.0, 0, 0.5), (0.42, 0, 0.5), 0.07, 0.08, trousers), y) for y in (-0.1, 0.1)]
    shins = [_shifted(beam((0.42, 0, 0.52), (0.45, 0, 0.0), 0.06, 0.07, trousers), y) for y in (-0.1, 0.1)]
    return [*legs, *shins, box((-0.2, 0.1), (-0.22, 0.22), (0.0, 0.45), 'fence_wood'),
            frustum((-0.14, 0.1), (-0.12, 0.12), 0.17, 0.22, (0.45, 1.0), shirt),
            ball((0, 0, 1.17), (0.1, 0.09, 0.13), 'skin')]


def _rider(hip: tuple[float, float], hands: tuple[float, float], feet: tuple[float, float], shirt: str,
           head: str) -> list[Mesh]:
    """A rider given by hip, hands and feet (x, z): bent trunk, arms, legs, head."""
    shoulder = (hip[0] + 0.22, hip[1] + 0.5)
    parts = [beam((hip[0], 0, hip[1]), (shoulder[0], 0, shoulder[1]), 0.19, 0.11, shirt),
             ball((shoulder[0] + 0.06, 0, shoulder[1] + 0.2), (0.11, 0.1, 0.14), head)]

    knee = (0.5 * (hip[0] + feet[0]) + 0.22, 0.55 * hip[1] + 0.45 * feet[1])
    arm = beam((shoulder[0], 0, shoulder[1] - 0.05), (hands[0], 0, hands[1]), 0.045, 0.05, shirt)
    thigh = beam((hip[0], 0, hip[1]), (knee[0], 0, knee[1]), 0.06, 0.08, 'cloth_dark')
    shin = beam((knee[0], 0, knee[1]), (feet[0], 0, feet[1]), 0.05, 0.06, 'cloth_dark')
    for y in (-0.17, 0.17):
        parts += [_shifted(arm, y), _shifted(thigh, 0.7 * y), _shifted(shin, 0.7 * y)]
    return parts


def bicycle(with_rider: bool, shirt: str = 'cloth_red') -> list[Mesh]:
    """A bicycle 1.75 m long, handlebar 0.6 m wide, with or without a rider."""
    parts = [wheel(x, 0.0, 0.34, 0.025, 0.34, 8) for x in (-0.53, 0.53)]
    tubes = (
        ((-0.53, 0.34), (-0.15, 0.85)), ((-0.53, 0.34), (-0.02, 0.3)), ((-0.02, 0.3), (-0.15, 0.85)),
        ((-0.02, 0.3), (0.38, 0.85)), ((-0.15, 0.8), (0.38, 0.85)), ((0.38, 0.98), (0.53, 0.34)))
    for start, end in tubes:
        parts.append(beam((start[0], 0, start[1]), (end[0], 0, end[1]), 0.025, 0.025, 'cycle_frame'))
    parts += [box((0.34, 0.42), (-0.3, 0.3), (0.97, 1.02), 'chassis_dark'),
              box((-0.28, -0.03), (-0.08, 0.08), (0.88, 0.93), 'chassis_dark')]
    if with_rider:
        parts += _rider((-0.15, 0.95), (0.36, 1.02), (0.0, 0.2), shirt, 'helmet')
    return parts


def motorcycle(with_rider: bool, paint: str = 'car_red') -> list[Mesh]:
    """A motorcycle 2.1 m long with engine, tank, seat, fork, mirrors; with or without a rider."""
    parts = [wheel(x, 0.0, 0.31, 0.07, 0.31, 8) for x in (-0.72, 0.72)]
    parts += [
        box((-0.3, 0.3), (-0.16, 0.16), (0.25, 0.6), 'pole_metal'),
        frustum((-0.1, 0.42), (-0.05, 0.35), 0.16, 0.13, (0.62, 0.92), paint),
        frustum((-0.95, -0.1), (-0.9, -0.1), 0.13, 0.15, (0.62, 0.8), 'chassis_dark'),
        beam((0.72, 0, 0.31), (0.42, 0, 1.0), 0.08, 0.05, 'pole_metal'),
        box((0.36, 0.44), (-0.38, 0.38), (0.98, 1.04), 'chassis_dark'),
        box((0.42, 0.55), (-0.11, 0.11), (0.75, 0.95), 'headlight'),
        box((-1.0, -0.92), (-0.1, 0.1), (0.68, 0.78), 'taillight'),
        *[box((0.3, 0.34), (y - 0.06, y + 0.06), (1.08, 1.18), 'vehicle_window') for y in (-0.32, 0.32)]]
    if with_rider:
        parts += _rider((-0.3, 0.85), (0.38, 1.0), (-0.05, 0.3), 'cloth_dark', 'car_white')
    return parts


def traffic_cone() -> list[Mesh]:
    """An orange cone with a white band on a square foot."""
    return [
        box((-0.2, 0.2), (-0.2, 0.2), (0.0, 0.05), 'chassis_dark'),
        prism(0.16, 0.11, (0.05, 0.35), 'cone_orange', 8), prism(0.11, 0.075, (0.35, 0.58), 'cone_white', 8),
        prism(0.075, 0.03, (0.58, 0.8), 'cone_orange', 8)]


def barrier() -> list[Mesh]:
    """A road barrier about 2 m wide across y: profiled foot, striped board."""
    paints = ('barrier_orange', 'barrier_white') * 3
    stripes = [box((-0.07, 0.07), (y, y + 0.33), (0.45, 1.0), paint)
               for y, paint in zip(np.arange(-1.0, 0.8, 0.333), paints, strict=True)]
    return [frustum((-0.3, 0.3), (-0.12, 0.12), 1.0, 0.98, (0.0, 0.45), 'barrier_white'), *stripes]


def debris() -> list[Mesh]:
    """A heap of rubble and a plank."""
    return [ball((0, 0, 0.15), (0.5, 0.35, 0.25), 'debris_dark'),
            box((-0.7, 0.7), (-0.1, 0.1), (0.0, 0.08), 'fence_wood')]


def wheeled_bin() -> list[Mesh]:
    """A two-wheeled rubbish bin."""
    return [frustum((-0.25, 0.25), (-0.3, 0.3), 0.23, 0.29, (0.08, 1.0), 'bin_green'),
            box((-0.35, 0.32), (-0.3, 0.3), (1.0, 1.08), 'bin_green'),
            *[wheel(-0.22, y, 0.1, 0.03, 0.1, 6) for y in (-0.24, 0.24)]]


def bicycle_rack(hoops: int) -> list[Mesh]:
    """A row of hoops along x with a rail."""
    parts = [box((0.0, hoops - 1.0), (-0.04, 0.04), (0.0, 0.05), 'pole_metal')]
    for x in range(hoops):
        parts += [box((x - 0.03, x + 0.03), (y - 0.03, y + 0.03), (0.0, 0.85), 'pole_metal')
                  for y in (-0.35, 0.35)]
        parts.append(box((x - 0.03, x + 0.03), (-0.38, 0.38), (0.85, 0.91), 'pole_metal'))
    return parts
