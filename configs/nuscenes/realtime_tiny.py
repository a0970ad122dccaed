"""An eleventh of the real-time network's arithmetic, for ten times the speed of CenterPoint-pillar.

ResNet-18 of half the width on 128 x 352 images, pillars of 0.4 m, 48 channels, one branch for all boxes. Its
backbone starts from nothing: no published weights are as narrow. Not trained; configs/world/realtime_tiny.py
is the same network on the synthetic world. docs/benchmarks/engines.md has what it takes.
"""
_base_ = ['realtime_small.py']
_width = 48
_image_size_hw = (128, 352)
_data = dict(
    collate_fn=dict(image_size_hw=_image_size_hw),
    dataset=dict(pipeline=dict(image=dict(size_hw=_image_size_hw))))
train_dataloader = _data
val_dataloader = _data
test_dataloader = _data
model = dict(
    encoders=dict(
        camera=dict(
            backbone=dict(width=0.5, pretrained=None), neck=dict(in_channels=(64, 128, 256), out_channels=64),
            in_channels=64, context_channels=24, out_channels=24, grid=dict(heights_m=(0.0, 1.2)),
            depth_bins=dict(count=30)),
        lidar=dict(
            pillar_grid=dict(cell_m=0.4), point_channels=(24,), channels=(24, 32), out_channels=24,
            export_sizes=dict(points=120_000, pillars=20_000)),
    ),
    fuser=dict(in_channels=dict(camera=24, lidar=24), out_channels=_width),
    trunk=dict(
        in_channels=_width, out_channels=_width, channels=(48, 64), layers=(1, 1), branch_channels=24),
    heads=dict(
        detection=dict(in_channels=_width, groups=None, shared_channels=48),
        map_segmentation=dict(in_channels=_width, width=24),
        occupancy=dict(in_channels=_width, width=32, hidden=48),
        lanes=dict(in_channels=_width, features=dict(width=64), decoder=dict(layers=1))),
)
