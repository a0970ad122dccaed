"""The ego's part of a simulated drive: a smooth trajectory at 50 Hz and its body as an obstacle."""
from __future__ import annotations

import numpy as np

from ..scene.relief import Relief
from ..scene.track import EgoTrajectory
from .actors import Actor
from .drivers import EGO_LENGTH_M, EGO_WIDTH_M
from .routes import Route
from .simulation import DriveLog

EGO_HEIGHT_M = 1.56
EGO_STEP_S = 0.02
WHEELBASE_M, HALF_TRACK_M = 2.588, 0.755


def ego_actor(log: DriveLog) -> Actor:
    """The ego's own box, row 0 of the log, so that no other object is put where it drives."""
    size = np.array([EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M])
    return Actor('vehicle.car', size, log.centre_DT2[0], log.yaw_DT[0])


def ego_trajectory(route: Route, log: DriveLog, relief: Relief) -> EgoTrajectory:
    """Rear-axle poses every 20 ms, with row 0 of the log as the ego's drive.

    The distance along the route is a monotone cubic through the simulated one: the speed has no jumps. The
    four wheels stand on the ground.
    """
    from scipy.interpolate import PchipInterpolator

    times = log.times_s
    distance = PchipInterpolator(times, log.s_DT[0])
    count = int(round((times[-1] - times[0]) / EGO_STEP_S)) + 1
    fine = times[0] + np.arange(count) * EGO_STEP_S
    xy, yaw = route.curve.at(distance(fine))
    height, slope = relief.plane_at(xy, yaw, (0.0, WHEELBASE_M), HALF_TRACK_M)

    # the speed is that of the wheels, up and down hill
    rise = slope[:, 0] * np.cos(yaw) + slope[:, 1] * np.sin(yaw)
    speed = distance(fine, 1) * np.hypot(1.0, rise)
    return EgoTrajectory(fine, np.column_stack([xy, height]), yaw, speed, slope)
