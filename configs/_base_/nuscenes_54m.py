"""The flagship on the ground of MetaBEV and M3Net (arXiv 2304.09801, 2503.18100): +-54 m, 180 x 180 cells of
0.6 m.

Both read sparse voxels of 0.075 m; ours are pillars of 0.15 m, made 0.6 m in two halvings.
"""
_base_ = ['../nuscenes/camera_lidar.py']
_ground = dict(x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0), cell_m=0.6)
_image_size_hw = (256, 704)
_points_m, _boxes_m = (-54.0, -54.0, -3.2, 54.0, 54.0, 4.8), (-54.0, -54.0, -5, 54.0, 54.0, 5)
model = dict(
    encoders=dict(
        camera=dict(grid=_ground), lidar=dict(pillar_grid={**_ground, 'cell_m': 0.15}, grid=_ground)
    ),
    heads=dict(
        detection=dict(grid=_ground), map_segmentation=dict(grid=_ground), occupancy=dict(grid=_ground),
        lanes=dict(grid=_ground)),
)
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True),
    dict(type='RandomFlipRotateScale', rotate_deg=45.0, scale=(0.9, 1.1), shift_std_m=0.5),
    dict(type='RangeFilter', points_m=_points_m, boxes_m=_boxes_m),
    dict(type='PointShuffle')]))
_test = dict(dataset=dict(pipeline=[dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=False),
                                    dict(type='RangeFilter', points_m=_points_m)]))
val_dataloader = _test
test_dataloader = _test
