"""Cameras alone on the synthetic world.

In training the LiDAR still tells the depth network how far objects are.
"""
_base_ = ['camera_lidar.py']
model = dict(encoders=dict(lidar=None), fuser=dict(in_channels=dict(lidar=None)))
_cameras = dict(collate_fn=dict(sensors=('camera',)), dataset=dict(sensors=('camera',)))
val_dataloader = _cameras
test_dataloader = _cameras
