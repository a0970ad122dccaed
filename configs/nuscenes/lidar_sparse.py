"""LiDAR alone on nuScenes by PillarNet's encoder: pillars of 0.1 m, sparse stages, stride 8.

PillarNet-18 (Shi et al. 2022, arXiv 2205.07403): widths and blocks as published; its pillars on nuScenes are
0.075 m on +-54 m, 180 x 180 cells. The same ground as configs/nuscenes/lidar.py, so that only the encoder
differs. In an engine it is dense: docs/benchmarks/full_size.md says what that costs.
"""
_base_ = ['lidar.py']
model = dict(
    encoders=dict(
        lidar=dict(
            type='SparseLidarEncoder',
            pillar_grid=dict(cell_m=0.1),
            point_channels=(32,),
            channels=(32, 64, 128, 256, 256),
            layers=(2, 2, 2, 2, 2),
            export_sizes=dict(points=320_000, pillars=120_000))),
)
