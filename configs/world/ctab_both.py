"""The cross-task attention bridge between boxes and map, both directions, small.

After Inanc & Erkent 2026, arXiv 2604.12918. Published (RCBEVDet's setting, Lin et al. 2024, arXiv 2403.16440,
on which the paper builds as far as can be read): 256 channels, 128 x 128 cells of 0.8 m. Ours by inference: 8
heads, 4 points, 3 levels. Here: 64 channels, queries at every second cell.
"""
_base_ = ['camera_lidar.py']

model = dict(
    bridge=dict(
        _delete_=True, type='CrossTaskBridge', grid={{_base_._grid}}, in_channels=64,
        tasks=('detection', 'map_segmentation'), exchange='both', levels=3, heads=4, points=4, stride=2)
)
