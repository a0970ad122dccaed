"""Map segmentation from the LiDAR alone on the synthetic world."""
_base_ = ['../world/lidar.py']
model = dict(heads=dict(detection=None, occupancy=None, lanes=None))
_task = dict(dataset=dict(tasks=('map_segmentation',)))
train_dataloader = _task
val_dataloader = _task
test_dataloader = _task
val_evaluator = dict(tasks=('map_segmentation',))
test_evaluator = val_evaluator
