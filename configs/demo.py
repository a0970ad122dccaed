"""The demo: four tasks from cameras and LiDAR, under six minutes of training on two cores (`make demo`).

The encoders keep weights of the longer recipe (`world_robust.py`, a world of other cities), as one would take frozen
backbones from ImageNet; fuser, trunk and all heads start from nothing.
`--cfg-options start_weights=None freeze=[]` learns all of it.
"""
_base_ = ['world_camera_lidar.py']
_root = 'data/demo_world'
train_dataloader = dict(dataset=dict(root=_root))
val_dataloader = dict(dataset=dict(root=_root))
test_dataloader = dict(dataset=dict(root=_root))
custom_hooks = [dict(type='LoaderWaitHook')]
start_weights = dict(file='data/weights/world_robust.pth', prefix='encoders.')
freeze = ['encoders.']
# tools/demo.py tests at the end: no validation here
train_cfg = dict(val_begin=100)
# at the trunk, the map's gradient is the smallest of the four by far
model = dict(heads=dict(map_segmentation=dict(weight=320.0)))
