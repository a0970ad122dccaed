"""Switched-modality training of MetaBEV at full size: camera, LiDAR or both, a third each (arXiv 2304.09801).

Published: from the checkpoint trained with both sensors (give `load_from`), 8 epochs for the map, 20 in a
later table.
"""
_base_ = ['metabev.py']
_points_m, _boxes_m = (-54.0, -54.0, -3.2, 54.0, 54.0, 4.8), (-54.0, -54.0, -5, 54.0, 54.0, 5)
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='ResizeCropFlipRotate', size_hw=(256, 704), train=True),
    dict(type='RandomFlipRotateScale', rotate_deg=45.0, scale=(0.9, 1.1), shift_std_m=0.5),
    dict(type='RangeFilter', points_m=_points_m, boxes_m=_boxes_m),
    dict(type='PointShuffle'),
    dict(type='SensorDropout', keep={'camera': 1 / 3, 'lidar': 1 / 3, 'camera+lidar': 1 / 3})]))
