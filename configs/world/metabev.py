"""The meta-BEV decoder (MetaBEV: Ge et al., ICCV 2023, arXiv 2304.09801) on the synthetic world.

Published: one query per cell (180 x 180), width 256, 8 heads, 4 points, 4 cross-modal and 2 self-attention
layers. Here: width 64 and a query for every 2 x 2 cells of the 128 x 128 grid; the rest as published.
"""
_base_ = ['camera_lidar.py']
model = dict(
    fuser=dict(
        _delete_=True, type='MetaBEV', in_channels=dict(camera=48, lidar=48), out_channels=64,
        grid={{_base_._grid}}, width=64, heads=8, points=4, cross_layers=4, self_layers=2, query_stride=2)
)
