"""The meta-BEV decoder over cameras, LiDAR and five radars (ours: the paper has two sensors), on the
synthetic world."""
_base_ = ['radar_camera_lidar.py']
_grid = dict(type='BEVGrid', x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), cell_m=0.8)
model = dict(
    fuser=dict(
        _delete_=True, type='MetaBEV', in_channels=dict(camera=48, lidar=48, radar=32), out_channels=64,
        grid=_grid, width=64, heads=8, points=4, cross_layers=4, self_layers=2, query_stride=2)
)
