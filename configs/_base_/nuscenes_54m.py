"""The flagship on the ground of MetaBEV and M3Net: +-54 m, 180 x 180 cells of 0.6 m.

MetaBEV is arXiv 2304.09801, M3Net 2503.18100. Both read sparse voxels of 0.075 m; ours are pillars of 0.15 m,
made 0.6 m in two halvings.
"""
_base_ = ['../nuscenes/camera_lidar.py']
_grid = dict(x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0), cell_m=0.6)
_points_m = (-54.0, -54.0, -3.2, 54.0, 54.0, 4.8)
_boxes_m = (-54.0, -54.0, -5, 54.0, 54.0, 5)
model = dict(
    encoders=dict(
        camera=dict(grid=_grid), lidar=dict(pillar_grid={**_grid, 'cell_m': 0.15}, grid=_grid)
    ),
    heads=dict(
        detection=dict(grid=_grid), map_segmentation=dict(grid=_grid), occupancy=dict(grid=_grid),
        lanes=dict(grid=_grid)),
)
train_dataloader = dict(dataset=dict(pipeline=dict(range=dict(points_m=_points_m, boxes_m=_boxes_m))))
val_dataloader = dict(dataset=dict(pipeline=dict(range=dict(points_m=_points_m))))
test_dataloader = val_dataloader
