"""Map segmentation from cameras alone on the synthetic world; lifted from features of stride 4, read between
their rows.

In training the LiDAR still tells the depth network how far things are.
"""
_base_ = ['../world/camera.py']
model = dict(
    encoders=dict(camera=dict(
        row_upsampling=2, backbone=dict(out_stages=(1, 2, 3, 4)), neck=dict(in_channels=(32, 64, 128, 256)))),
    heads=dict(detection=None, occupancy=None, lanes=None))
_task = dict(dataset=dict(tasks=('map_segmentation',)))
train_dataloader = _task
val_dataloader = _task
test_dataloader = _task
val_evaluator = dict(tasks=('map_segmentation',))
test_evaluator = val_evaluator
