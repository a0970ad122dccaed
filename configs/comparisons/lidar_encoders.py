"""What the LiDAR encoders are worth, learned: pillars of 0.4 m and of 0.1 m, and voxels of 0.1 m.

A list for `tools/compare_systems.py --list`: four tasks from the LiDAR alone; everything but the encoder is
the same.
"""
recipe = 'world/camera_lidar.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='pillars of 0.4 m', config='world/lidar.py'),
    dict(name='sparse pillars of 0.1 m', config='ablations/lidar_sparse.py'),
    dict(name='voxels of 0.1 m', config='ablations/lidar_voxel.py')]
