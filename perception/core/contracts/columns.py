"""Columns of points and boxes by name."""
from __future__ import annotations

LIDAR_COLUMNS = ('x_m', 'y_m', 'z_m', 'intensity', 'ring', 'time_lag_s')
RADAR_COLUMNS = ('x_m', 'y_m', 'z_m', 'vx_mps', 'vy_mps', 'rcs_dbsm', 'time_lag_s', 'radar_index')

XYZ = slice(0, 3)
XY = slice(0, 2)
"""Columns of points and boxes of every kind: position (m)."""

INTENSITY = 3
RING = 4
TIME_LAG = 5
"""Columns of LiDAR points `(P, 6)`, see `LIDAR_COLUMNS`."""

RADAR_VELOCITY = slice(3, 5)
RADAR_RCS = 5
RADAR_TIME_LAG = 6
RADAR_INDEX = 7
"""Columns of radar points `(P, 8)`, see `RADAR_COLUMNS`."""

FARTHEST_M = 1e8
"""Largest coordinate of a place in the global frame; also in float32 arithmetic it stays finite."""

CENTRE = slice(0, 3)
SIZE = slice(3, 6)
YAW = 6
VELOCITY = slice(7, 9)
"""Columns of boxes `(*, M, 9)`: centre x, y, z (m); length, width, height (m); yaw (rad, counter-clockwise
from +x); vx, vy (m/s)."""

LIDAR_LIMITS = ((-1000.0, 1000.0), (-1000.0, 1000.0), (-1000.0, 1000.0), (0.0, 255.0), (-1.0, 1023.0),
                (-10.0, 10.0))
RADAR_LIMITS = ((-1000.0, 1000.0), (-1000.0, 1000.0), (-1000.0, 1000.0), (-200.0, 200.0), (-200.0, 200.0),
                (-100.0, 100.0), (-10.0, 10.0), (0.0, 4.0))
"""Lowest and highest value of every column of points, both allowed. A row outside is no measurement: readers
drop it and count it, as they do rows that are not finite."""
