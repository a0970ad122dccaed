"""The demo: four tasks from cameras and LiDAR, under six minutes of training on two cores (`make demo`).

The camera encoder starts from weights of the longer recipe (`world_camera_lidar.py`, a world of other cities), as one would start
from ImageNet's; everything else starts from nothing. `--cfg-options start_weights=None` does without.
"""
_base_ = ['world_camera_lidar.py']
_root = 'data/demo_world'
_image_size_hw = (128, 352)
train_dataloader = dict(dataset=dict(root=_root, pipeline=[
    dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True, scale=(1.04, 1.14), flip=0.0, rotate_deg=0.0),
    dict(type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5), boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5))]))
val_dataloader = dict(dataset=dict(root=_root))
test_dataloader = dict(dataset=dict(root=_root))
custom_hooks = [dict(type='LoaderWaitHook')]
start_weights = dict(file='data/weights/world_camera_lidar.pth', prefix='encoders.camera.')
