"""LiDAR alone on the synthetic world by VoxelNet: voxels of 0.1 x 0.1 x 0.2 m, four resolutions, stride 8.

Against configs/world/lidar.py, whose pillars are 0.4 m, and lidar_sparse.py, whose pillars are 0.1 m.
"""
_base_ = ['../world/lidar.py']
_ground = dict(type='BEVGrid', x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-3.0, 5.0))
model = dict(
    encoders=dict(
        lidar=dict(
            _delete_=True, type='VoxelNet', voxel_grid=dict(_ground, cell_m=0.1, height_cell_m=0.2),
            grid=dict(_ground, cell_m=0.8), widths=(16, 24, 32, 48), compressed=24, channels=(), layers=(),
            out_channels=48, sizes=dict(voxels=30_000))),
)
