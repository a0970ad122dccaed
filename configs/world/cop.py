"""Collaborative Perceiver: height-guided sampling, global-local fusion over concatenation (Yuan et al. 2025,
arXiv 2507.21358).

No hyper-parameter of the publication can be read; bands and widths are ours.
"""
_base_ = ['camera_lidar.py']
_voxel_grid = dict(
    type='BEVGrid', x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), cell_m=0.8, z_range_m=(-0.5, 3.5),
    height_cell_m=1.0)

model = dict(fuser=dict(
    _delete_=True, type='CollaborativeFuser', grid=_voxel_grid, voxel_channels=32, band_channels=16,
    fuser=dict(type='ConcatFuser', in_channels=dict(camera=48, lidar=48), out_channels=64)))
