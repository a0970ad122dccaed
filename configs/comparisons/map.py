"""What each sensor is worth on the map, learned alone; encoders go on learning.

A list for `tools/compare_systems.py --list`.
"""
recipe = 'demo.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='cameras', config='ablations/map_segmentation_camera.py'),
    dict(name='LiDAR', config='ablations/map_segmentation_lidar.py'),
    dict(name='cameras and LiDAR', config='ablations/map_segmentation.py')]
