"""What the cameras' lift is worth, learned: the ground's three tasks from cameras alone.

A list for `tools/compare_systems.py --list`.
"""
recipe = 'world/camera_lidar.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='four pixels, depth or height', config='ablations/camera_ground.py'),
    dict(name='nearest pixel, depth alone', config='ablations/camera_ground_nearest.py')]
