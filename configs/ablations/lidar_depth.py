"""The LiDAR's depths beside the images in the depth network (docs/view_transform.md)."""
_base_ = ['../world/camera_lidar.py']
model = dict(encoders=dict(camera=dict(depth=dict(lidar_strides=(4, 2), layers=2))))
