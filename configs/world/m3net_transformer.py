"""M3Net's shared decoder, Transformer form (Chen et al. 2025, AAAI, arXiv 2503.18100), small.

Published: 180 x 180 tokens of 0.6 m and 256 channels, 6 layers, 8 heads, 4 points, feed-forward 1024, 200
detection queries, 5 strips of 6 map queries, losses of the first predictions 6 (beside 2 for the boxes) and
20 (beside 40 for the map). Here: 64 channels, tokens of every second cell, 2 layers.
"""
_base_ = ['camera_lidar.py']

model = dict(
    bridge=dict(
        _delete_=True, type='M3NetBridge', grid={{_base_._grid}}, in_channels=64,
        decoder=dict(variant='transformer', layers=2, heads=4, points=4, feedforward=128, stride=2),
        queries=dict(detection=200, map_strips=4, occupancy_stride=8),
        losses=dict(first_heatmap=1.0, first_focal=1.0))
)
