"""A four-task model for two CPU cores.

Half-width ResNet-18, pillars of 0.4 m, a trunk of 128 x 128 cells of 0.8 m.
"""
_x_m, _y_m = (-51.2, 51.2), (-51.2, 51.2)
_grid = dict(type='BEVGrid', x_range_m=_x_m, y_range_m=_y_m, cell_m=0.8)
# the lowest layer lies on the ground: road markings are read from the pixels that show them
_voxel_grid = dict(
    type='BEVGrid', x_range_m=_x_m, y_range_m=_y_m, cell_m=0.8, heights_m=(0.0, 0.8, 2.0))
_pillar_grid = dict(type='BEVGrid', x_range_m=_x_m, y_range_m=_y_m, cell_m=0.4, z_range_m=(-3.0, 5.0))
# of x, y, z, intensity, time lag, from the pillar's mean, from its centre: in few steps a point's height is
# learned only if it counts as much as its place (docs/benchmarks/training.md)
_lidar_units = (16, 16, 1, 0.25, 0.25, 0.25, 0.25, 0.5, 0.25, 0.25)
_radar_pillar_grid = dict(_pillar_grid, cell_m=0.8)
_width = 64
# where the data has time in it, sweeps or a memory: velocities in such a unit that count, those of what moves
# most of all, are learned in few steps (docs/benchmarks/temporal.md); on one moment they cost boxes' headings
_velocity_unit = 8.0
_velocity_losses = dict(code=(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), moving=4.0)
# for configurations that lift cameras from features of stride 4
_camera_stride_4 = dict(
    backbone=dict(out_stages=(1, 2, 3, 4)), neck=dict(in_channels=(32, 64, 128, 256)))

model = dict(
    type='MultiTaskPerception',
    norm_momentum=0.03,  # one sample a step
    data_preprocessor=dict(type='BatchPreprocessor'),
    encoders=dict(
        camera=dict(
            type='CameraEncoder', grid=_voxel_grid, in_channels=64, context_channels=32, out_channels=48,
            depth_bins=dict(type='DepthBins', low_m=1.0, high_m=49.0, count=48),
            backbone=dict(type='ResNet', depth=18, width=0.5, out_stages=(2, 3, 4)),
            neck=dict(type='FPN', in_channels=(64, 128, 256), out_channels=64, out_levels=(0,)),
            lift=dict(slots=1, read='bilinear', heights=True), refine_layers=1,  # docs/view_transform.md
            depth=dict(loss_weight=0.2)),
        lidar=dict(
            type='LidarEncoder', pillar_grid=_pillar_grid, grid=_grid, point_channels=(32,),
            channels=(48, 48), layers=(1, 1), out_channels=48, units=_lidar_units,
            export_sizes=dict(points=60_000, pillars=12_000)),
    ),
    fuser=dict(type='ConcatFuser', in_channels=dict(camera=48, lidar=48), out_channels=_width),
    trunk=dict(
        type='Trunk', in_channels=_width, out_channels=_width, channels=(64, 96, 128), layers=(1, 2, 2),
        strides=(1, 2, 2)),
    bridge=None,
    heads=dict(
        detection=dict(
            type='CenterHead', grid=_grid, in_channels=_width, shared_channels=64,
            # one shared hidden layer flips more headings
            branches=dict(channels=32, separate=True),
            losses=dict(box=1.0),
            decoding=dict(max_boxes=200, score_threshold=0.03, moving_mps=0.5)),
        map_segmentation=dict(
            type='MapSegmentationHead', grid=_grid, in_channels=_width, width=48, resample='logits',
            losses=dict(focal=40.0, class_weights=(1, 2, 1, 3, 1, 2))),
        occupancy=dict(
            type='OccupancyHead', grid=_grid, in_channels=_width, width=64, layers=1, hidden=96,
            work_cell_m=0.8, mask='camera', losses=dict(voxels_per_sample=8192)),
        lanes=dict(
            type='LaneHead', grid=_grid, in_channels=_width,
            classes=('divider', 'ped_crossing', 'boundary', 'centerline'),
            features=dict(width=64, layers=1, cell_m=1.0),
            decoder=dict(instances=30, layers=2),
            targets=dict(auxiliary_repeats=3)),
    ),
)
