"""The flagship made smaller for real time.

ResNet-18 on the same 256 x 704 images, half the width, two earlier sweeps. Its loss of accuracy against
configs/nuscenes/camera_lidar.py is not measured.
"""
_base_ = ['camera_lidar.py']
_width = 128
model = dict(
    encoders=dict(
        camera=dict(
            backbone=dict(depth=18, pretrained='data/pretrained/resnet18.pth', checkpoint=False),
            neck=dict(in_channels=(128, 256, 512), out_channels=128), in_channels=128, context_channels=48,
            out_channels=64, grid=dict(heights_m=(0.0, 0.6, 1.6, 3.0)), depth_bins=dict(count=59)),
        lidar=dict(
            point_channels=(32,), channels=(32, 64), layers=(1, 1), out_channels=64,
            export_sizes=dict(points=120_000, pillars=30_000)),
    ),
    fuser=dict(in_channels=dict(camera=64, lidar=64), out_channels=_width),
    trunk=dict(
        in_channels=_width, out_channels=_width, channels=(64, 128), layers=(1, 2), strides=(2, 2),
        branch_channels=64),
    heads=dict(
        detection=dict(in_channels=_width, branches=dict(channels=48, separate=False, final_kernel=1)),
        map_segmentation=dict(in_channels=_width, width=64, resample='logits'),
        occupancy=dict(in_channels=_width, width=96, hidden=128, work_cell_m=0.8),
        lanes=dict(
            in_channels=_width, features=dict(width=128, cell_m=1.0),
            decoder=dict(instances=50, layers=2, feedforward=256))),
)
_sweeps = dict(dataset=dict(reading=dict(lidar_sweeps=2)))
train_dataloader = _sweeps
val_dataloader = _sweeps
test_dataloader = _sweeps
