"""Switched-modality training of MetaBEV: camera, LiDAR or both, a third each (arXiv 2304.09801).

Published: from a checkpoint trained with both sensors (give `load_from`), 8 epochs for the map; there one
draw an iteration, here one a sample.
"""
_base_ = ['metabev.py']
_image_size_hw = (128, 352)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True),
            dict(type='RandomFlipRotateScale', rotate_deg=22.5, scale=(0.95, 1.05)),
            dict(
                type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5),
                boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5)),
            dict(type='SensorDropout', keep={'camera': 1 / 3, 'lidar': 1 / 3, 'camera+lidar': 1 / 3}),
        ]
    )
)
model = dict(norm_by_sensors=True)  # a map without a LiDAR has other means
