"""Switched-modality training of MetaBEV: camera, LiDAR or both, a third each (arXiv 2304.09801).

Published: from a checkpoint trained with both sensors (give `start_weights`), 8 epochs for the map. With the
one sample a step of this recipe a draw a sample is the published draw an iteration.
"""
_base_ = ['metabev.py']
train_dataloader = dict(dataset=dict(pipeline=dict(
    image=dict(scale=(0.864, 1.25), flip=0.5, rotate_deg=5.4),
    bev=dict(flip_x=0.5, rotate_deg=22.5, scale=(0.95, 1.05), shift_std_m=(0.5, 0.5, 0.0)),
    sensors=dict(type='SensorDropout', keep={'camera': 1 / 3, 'lidar': 1 / 3, 'camera+lidar': 1 / 3}))))
model = dict(norm_by_sensors=True)  # a map without a LiDAR has other means
