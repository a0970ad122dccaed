"""Map segmentation alone on the synthetic world: the single-task reference for the four-task model."""
_base_ = ['../world/camera_lidar.py']
model = dict(heads=dict(detection=None, occupancy=None, lanes=None))
_task = dict(dataset=dict(tasks=('map_segmentation',)))
train_dataloader = _task
val_dataloader = _task
test_dataloader = _task
val_evaluator = dict(tasks=('map_segmentation',))
test_evaluator = val_evaluator
