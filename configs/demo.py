"""The demo: four tasks from cameras and LiDAR, 372 steps of training (`make demo`).

Encoders, fuser and trunk start from weights of the longer recipe (`world/robust.py`, a world of other
cities), as one would start from a published backbone; the encoders stay as they are, fuser and trunk go on
learning, and all heads start from nothing. `--cfg-options start_weights=None freeze=[]` learns all of it.
"""
_base_ = ['world/camera_lidar.py']
_root = 'data/demo_world'
_epochs = 2
train_dataloader = dict(dataset=dict(root=_root))
val_dataloader = dict(dataset=dict(root=_root))
test_dataloader = dict(dataset=dict(root=_root))
custom_hooks = [dict(type='LoaderWaitHook')]
start_weights = dict(file='data/weights/world_robust.pth', prefix=['encoders.', 'fuser.', 'trunk.'])
freeze = ['encoders.']
# the demo tests at the end: no validation here
train_cfg = dict(max_epochs=_epochs, val_begin=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
# at the trunk, the map's gradient is the smallest of the four by far
model = dict(
    encoders=dict(camera={{_base_._camera_of_weights}}),
    heads=dict(map_segmentation=dict(losses=dict(focal=320.0))))
