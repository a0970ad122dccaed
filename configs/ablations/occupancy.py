"""Occupancy alone on the synthetic world: the single-task reference for the four-task model."""
_base_ = ['../world/camera_lidar.py']
model = dict(heads=dict(detection=None, map_segmentation=None, lanes=None))
_task = dict(dataset=dict(tasks=('occupancy',)))
train_dataloader = _task
val_dataloader = _task
test_dataloader = _task
val_evaluator = dict(tasks=('occupancy',))
test_evaluator = val_evaluator
