"""Switched-modality training of MetaBEV at full size: camera, LiDAR or both, a third each (arXiv 2304.09801).

Published and taken over: it goes on from the model that was trained with both sensors, for 8 epochs (20 in a
later table), with one draw an iteration (`draw_by='batch'`; 'sample' mixes them within a batch). Ours: batch
norms keep statistics by the set of sensors, since a map without a LiDAR has other means
(docs/benchmarks/systems.md).
"""
_base_ = ['metabev.py']
_epochs, _rising = 8, 3
start_weights = dict(file='work_dirs/nuscenes/metabev/epoch_20.pth', new=['*.updates'])  # counts by sets
model = dict(norm_by_sensors=True)
train_dataloader = dict(dataset=dict(pipeline=dict(
    sensors=dict(
        type='SensorDropout', draw_by='batch',
        keep={'camera': 1 / 3, 'lidar': 1 / 3, 'camera+lidar': 1 / 3}))))
find_unused_parameters = True  # the encoder of a sensor that a process's batch lacks gets no gradient
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, end=_rising, T_max=_rising, eta_min_ratio=10,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=_rising, end=_epochs, T_max=_epochs - _rising,
        eta_min_ratio=1e-5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingMomentum', by_epoch=True, begin=0, end=_rising, T_max=_rising,
        eta_min_ratio=0.85 / 0.95, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingMomentum', by_epoch=True, begin=_rising, end=_epochs, T_max=_epochs - _rising,
        eta_min_ratio=1, convert_to_iter_based=True),
]
