"""The demo: another fuser for the shipped encoders, trunk and heads, 372 steps of training (`make demo`).

All but the fuser starts from the weights of the longest recipe (`world/long`, a world of other cities), as
one would start from a published model; MAFI, in the place of concatenation, starts from nothing. The encoders
stay as they are, the rest goes on learning. `--cfg-options start_weights=None freeze=[]` learns all of it.
"""
_base_ = ['world/mafi.py']
_root = 'data/demo_world'
_epochs = 2
# the clouds that the weights know: four earlier turns of the LiDAR
_data = dict(dataset=dict(root=_root, reading=dict(lidar_sweeps=4)))
train_dataloader = _data
val_dataloader = _data
test_dataloader = _data
custom_hooks = [dict(type='LoaderWaitHook')]
start_weights = dict(
    file='data/weights/world_long.pth',
    prefix=['encoders.camera.', 'encoders.lidar.', 'trunk.', 'heads.'])
freeze = ['encoders.']
# the demo tests at the end: no validation here
train_cfg = dict(max_epochs=_epochs, val_begin=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
# with its head's own weight of 1 the map's gradient at the trunk is the smallest of the four by far; on the
# balancers' field 320 makes it the largest (docs/benchmarks/balancing.md), here that was not measured
model = dict(
    encoders=dict(lidar=dict(export_sizes=dict(points=200_000, pillars=24_000))),
    heads=dict(
        detection=dict(
            branches=dict(velocity_unit={{_base_._velocity_unit}}), losses={{_base_._velocity_losses}}),
        map_segmentation=dict(losses=dict(focal=320.0))))
