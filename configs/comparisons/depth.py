"""What the depth network may read besides images, learned: the LiDAR's depths, the calibration.

A list for `tools/compare_systems.py --list`.
"""
recipe = 'world/camera_lidar.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='images', config='world/camera_lidar.py'),
    dict(name='images and LiDAR depths', config='ablations/lidar_depth.py'),
    dict(name='images and calibration', config='ablations/camera_aware.py')]
