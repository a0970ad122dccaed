"""Boxes alone on the synthetic world: the single-task reference for the four-task model."""
_base_ = ['../world/camera_lidar.py']
tasks = ('detection',)
