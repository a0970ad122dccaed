"""The smallest real-time network on the synthetic world, to say what it loses.

Four fifths of `world/realtime.py`'s arithmetic: 48 channels in place of 64, narrower heads, as
configs/nuscenes/realtime_tiny.py.

    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/realtime_tiny.py --launcher pytorch

One epoch, 600 steps of 2 samples; image backbone and neck start from data/weights/world_long.pth. With
`--cfg-options train_cfg.max_epochs=2 param_scheduler.1.T_max=2` it has as many steps as world/realtime.py.
"""
_base_ = ['realtime.py']
_width = 48
_epochs = 1
start_weights = dict(prefix=['encoders.camera.backbone.', 'encoders.camera.neck.'], new=[])
model = dict(
    encoders=dict(
        camera=dict(out_channels=24),
        lidar=dict(channels=(24, 32), out_channels=24)),
    fuser=dict(in_channels=dict(camera=24, lidar=24), out_channels=_width),
    trunk=dict(in_channels=_width, out_channels=_width, channels=(48, 64), branch_channels=24),
    heads=dict(
        detection=dict(in_channels=_width, branches=dict(channels=24)),
        map_segmentation=dict(in_channels=_width, width=24),
        occupancy=dict(in_channels=_width, width=32, hidden=48),
        lanes=dict(in_channels=_width)),
)
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
