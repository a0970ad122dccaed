"""A depth network that reads the cameras' calibration (docs/view_transform.md)."""
_base_ = ['../world/camera_lidar.py']
model = dict(encoders=dict(camera=dict(depth=dict(camera_aware=True))))
