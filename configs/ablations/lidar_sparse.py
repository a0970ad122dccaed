"""LiDAR alone on the synthetic world by a sparse encoder: pillars of 0.1 m, four stages, stride 8.

Against configs/world/lidar.py, whose pillars are 0.4 m.
"""
_base_ = ['../world/lidar.py']
model = dict(
    encoders=dict(
        lidar=dict(
            type='SparseLidarEncoder', pillar_grid=dict(cell_m=0.1), point_channels=(16,),
            channels=(16, 24, 32, 48, 48), layers=(1, 1, 1, 1, 1),
            export_sizes=dict(points=60_000, pillars=30_000))),
)
