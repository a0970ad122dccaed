"""The smallest complete model, for tests and for a first look.

Four tasks, a few seconds an epoch on a tiny world.
"""
_base_ = ['_base_/runtime.py', '_base_/schedule_cosine.py', '_base_/data_world.py', '_base_/model_small.py']
_grid = dict(cell_m=1.6)
_image_size_hw = (64, 176)

model = dict(
    encoders=dict(
        camera=dict(
            grid=_grid, in_channels=32, context_channels=16, out_channels=16, depth_bins=dict(count=24),
            backbone=dict(width=0.25), neck=dict(in_channels=(32, 64, 128), out_channels=32)),
        lidar=dict(
            pillar_grid=dict(cell_m=0.8), grid=_grid, point_channels=(16,), channels=(24, 32),
            out_channels=32, export_sizes=dict(points=40_000, pillars=6_000)),
    ),
    fuser=dict(in_channels=dict(camera=16, lidar=32), out_channels=32),
    trunk=dict(in_channels=32, out_channels=32, channels=(32, 48), layers=(1, 1), strides=(1, 2)),
    heads=dict(
        detection=dict(grid=_grid, in_channels=32, shared_channels=32, branches=dict(channels=32)),
        map_segmentation=dict(grid=_grid, in_channels=32, width=32),
        occupancy=dict(
            grid=_grid, in_channels=32, width=32, hidden=48, work_cell_m=1.6,
            losses=dict(voxels_per_sample=20_000)),
        lanes=dict(
            grid=_grid, in_channels=32, features=dict(width=32, cell_m=2.0),
            decoder=dict(instances=12, layers=2))),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        pipeline=dict(
            image=dict(size_hw=_image_size_hw, scale=(0.864, 1.25), flip=0.5, rotate_deg=5.4),
            bev=dict(flip_x=0.5, rotate_deg=22.5, scale=(0.95, 1.05), shift_std_m=(0.5, 0.5, 0.0)),
        )
    ),
)
_test = dict(
    batch_size=1, num_workers=0, persistent_workers=False, collate_fn=dict(image_size_hw=_image_size_hw),
    dataset=dict(pipeline=dict(image=dict(size_hw=_image_size_hw))))
val_dataloader = _test
test_dataloader = _test
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=2, eta_min_ratio=1e-2, convert_to_iter_based=True)
]
default_hooks = dict(logger=dict(interval=2))
