"""What each sensor is worth on the map, learned alone (tools/compare_systems.py --list); encoders go on learning."""
recipe = 'demo.py'
base = 'world_camera_lidar.py'
rows = [
    dict(name='cameras', config='world_map_segmentation_camera.py'),
    dict(name='LiDAR', config='world_map_segmentation_lidar.py'),
    dict(name='cameras and LiDAR', config='world_map_segmentation.py'),
]
