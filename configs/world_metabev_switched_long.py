"""Switched-modality training of MetaBEV for a long recipe: it goes on from `world_metabev.py`, which has all but its fuser from
`data/weights/world_robust.pth` (tools/compare_systems.py --list configs/_base_/comparison_lost_sensor.py).

The camera encoder learns on (give --freeze encoders.lidar.) and reads between its rows; cameras alone a little more often than a
third of the samples, because they have more to learn when they are alone.
"""
_base_ = ['world_metabev_switched.py']
_image_size_hw = (128, 352)
model = dict(encoders=dict(camera=dict(row_upsampling=4)))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True),
    dict(type='RandomFlipRotateScale', rotate_deg=22.5, scale=(0.95, 1.05)),
    dict(type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5), boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5)),
    dict(type='SensorDropout', keep={'camera': 0.4, 'lidar': 0.3, 'camera+lidar': 0.3})]))
