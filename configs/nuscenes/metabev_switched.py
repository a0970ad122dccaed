"""Switched-modality training of MetaBEV at full size: camera, LiDAR or both, a third each (arXiv 2304.09801).

Published: from the checkpoint trained with both sensors (give `load_from`), 8 epochs for the map, 20 in a
later table.
"""
_base_ = ['metabev.py']
train_dataloader = dict(dataset=dict(pipeline=dict(
    sensors=dict(type='SensorDropout', keep={'camera': 1 / 3, 'lidar': 1 / 3, 'camera+lidar': 1 / 3}))))
