"""The flagship from a LiDAR model: LiDAR first, then cameras beside it (Liu et al. 2023, arXiv 2205.13542).

    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/lidar.py --launcher pytorch
    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/camera_lidar.py --launcher pytorch

BEVFusion's boxes are learned so: six epochs to a rate of 2e-4 for 32 samples, with 500 steps to warm up and a
cosine, after 20 of the LiDAR alone. LiDAR encoder, trunk and heads go on from there; cameras and fuser are
new.
"""
_base_ = ['../camera_lidar.py']
_epochs = 6
start_weights = dict(file='work_dirs/nuscenes/lidar/epoch_20.pth', new=['encoders.camera.', 'fuser.'])
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-3, convert_to_iter_based=True
    ),
]
