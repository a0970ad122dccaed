"""The meta-BEV decoder over cameras, LiDAR and five radars, on the synthetic world.

The radars are ours: the paper has two sensors.
"""
_base_ = ['radar_camera_lidar.py']
model = dict(
    fuser=dict(
        _delete_=True, type='MetaBEV', in_channels=dict(camera=48, lidar=48, radar=32), out_channels=64,
        grid={{_base_._grid}}, width=64, heads=8, points=4, cross_layers=4, self_layers=2, query_stride=2)
)
