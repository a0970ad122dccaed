r"""Four tasks that outlive a dead sensor: the longer recipe with sensors taken away while it learns.

    python tools/make_world.py --out data/world --scenes 120 --key-frames 12 --seed 1 --image-size 225x400
    python tools/create_data.py nuscenes --root data/world --version v1.0-trainval \
        --lidar-sweeps 0 --radar-sweeps 0
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/robust.py --launcher pytorch

A third of the samples lack the LiDAR or the cameras (MetaBEV's switched modality, arXiv 2304.09801, at
gentler odds), so that no encoder leans on the other. `long/1_moments.py` goes on with radars and sweeps.
"""
_base_ = ['camera_lidar.py']
_epochs = 5
train_dataloader = dict(dataset=dict(pipeline=dict(
    sensors=dict(type='SensorDropout', keep={'camera': 0.25, 'lidar': 0.1, 'camera+lidar': 0.65}))))
model = dict(
    norm_by_sensors=True,
    # velocities' unit of what goes on from it, with time in its data
    heads=dict(detection=dict(branches=dict(velocity_unit={{_base_._velocity_unit}}))))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
find_unused_parameters = True  # the encoder of a sensor that a process's sample lacks gets no gradient
