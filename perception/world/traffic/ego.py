"""The ego's part of a simulated drive: a smooth trajectory at 50 Hz and its body as an obstacle."""
from __future__ import annotations

import numpy as np

from ..scene.track import EgoTrajectory
from .actors import Actor
from .drivers import EGO_LENGTH_M, EGO_WIDTH_M
from .routes import Route
from .simulation import DriveLog

EGO_HEIGHT_M = 1.56
EGO_STEP_S = 0.02


def ego_actor(log: DriveLog, first_step: int) -> Actor:
    """The ego's own box, row 0 of the log, so that nothing is put where it drives."""
    return Actor(
        'vehicle.car', np.array([EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M]), log.centre_DT2[0, first_step:],
        log.yaw_DT[0, first_step:])


def ego_trajectory(route: Route, log: DriveLog, first_step: int) -> EgoTrajectory:
    """Rear-axle poses every 20 ms: distance by a monotone cubic through the simulated one, then along the
    route."""
    from scipy.interpolate import PchipInterpolator

    times, s_T = log.times_s[first_step:], log.s_DT[0, first_step:]
    distance = PchipInterpolator(times, s_T)
    count = int(round((times[-1] - times[0]) / EGO_STEP_S)) + 1
    fine = times[0] + np.arange(count) * EGO_STEP_S
    xy, yaw = route.curve.at(distance(fine))
    return EgoTrajectory(fine, np.column_stack([xy, np.zeros(count)]), yaw, distance(fine, 1))
