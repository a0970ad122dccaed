"""LiDAR alone on nuScenes by VoxelNet: voxels of 0.1 x 0.1 x 0.2 m, sparse 3-D convolutions, stride 8.

The encoder of CenterPoint and BEVFusion (Yin et al. 2021, arXiv 2006.11275) at its coarser published size;
behind it our trunk, which is SECOND's. The same ground as configs/nuscenes/lidar.py, so that only the encoder
differs. It does not export at this size: docs/systems.md.
"""
_base_ = ['lidar.py']
model = dict(
    encoders=dict(
        lidar=dict(
            _delete_=True, type='VoxelNet',
            voxel_grid=dict(
                type='BEVGrid', x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-3.2, 4.8),
                cell_m=0.1, height_cell_m=0.2),
            grid=dict(type='BEVGrid', x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), cell_m=0.8),
            channels=(), layers=(), out_channels=256)),
)
