"""Switched-modality training of MetaBEV at full size: camera, LiDAR or both, a third each (arXiv 2304.09801).

Published and taken over: it goes on from the model that was trained with both sensors, for 8 epochs (20 in a
later table), with one draw an iteration (`draw_by='batch'`; 'sample' mixes them within a batch). Ours: batch
norms keep statistics by the set of sensors, since a map without a LiDAR has other means
(docs/benchmarks/systems.md).
"""
_base_ = ['metabev.py']
start_weights = dict(file='work_dirs/nuscenes/metabev/epoch_20.pth', new=['*.updates'])  # counts by sets
model = dict(norm_by_sensors=True)
train_dataloader = dict(dataset=dict(pipeline=dict(
    sensors=dict(
        type='SensorDropout', draw_by='batch',
        keep={'camera': 1 / 3, 'lidar': 1 / 3, 'camera+lidar': 1 / 3}))))
find_unused_parameters = True  # the encoder of a sensor that a process's batch lacks gets no gradient
train_cfg = dict(max_epochs=8)
param_scheduler = dict(type='OneCycle', epochs=8, rising=3)
