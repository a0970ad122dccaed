"""Cameras alone on nuScenes; in training the LiDAR still tells the depth network how far objects are.

The depth network reads the camera's calibration, as published where cameras have no LiDAR beside them
(BEVDepth: Li et al. 2023, arXiv 2206.10092, section 3.3).
"""
_base_ = ['camera_lidar.py']
model = dict(
    encoders=dict(camera=dict(depth=dict(camera_aware=True)), lidar=None),
    fuser=dict(in_channels=dict(lidar=None)))
_cameras = dict(collate_fn=dict(sensors=('camera',)), dataset=dict(sensors=('camera',)))
val_dataloader = _cameras
test_dataloader = _cameras
