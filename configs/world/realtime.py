"""The longer recipe's model made smaller for real time on two CPU cores.

Half the depth bins, a narrower trunk, one lane layer.

    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/realtime.py --launcher pytorch

Image backbone, neck and lane head, which are its base's, start from its base's weights; all of it learns, two
epochs more. docs/deployment.md has what it loses against configs/world/robust.py, its base.
"""
_base_ = ['robust.py']
_epochs = 2
start_weights = dict(
    file='data/weights/world_long.pth', new=['*.updates'],
    prefix=['encoders.camera.backbone.', 'encoders.camera.neck.', 'heads.lanes.'])
model = dict(
    encoders=dict(
        camera=dict(
            context_channels=24, out_channels=32,
            grid=dict(heights_m=(0.0, 1.2), z_range_m=(-0.6, 1.8), height_cell_m=None),
            lift=dict(slots=1, read='bilinear', heights=True), refine_layers=1, depth_bins=dict(count=24)),
        lidar=dict(
            point_channels=(24,), channels=(32, 32), out_channels=32,
            export_sizes=dict(points=40_000, pillars=9_000)),
    ),
    fuser=dict(in_channels=dict(camera=32, lidar=32)),
    trunk=dict(channels=(48, 64), layers=(1, 1), strides=(2, 2)),
    heads=dict(
        detection=dict(shared_channels=48, branches=dict(channels=32)), map_segmentation=dict(width=32),
        occupancy=dict(width=48, hidden=64), lanes=dict(decoder=dict(layers=1))),
)
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
