"""Swin-T's cameras beside a trained LiDAR of fine pillars (Liu et al. 2023, arXiv 2205.13542).

    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/lidar_sparse.py --launcher pytorch
    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/camera_lidar_swin.py --launcher pytorch

Six epochs as in camera_lidar.py beside this file; cameras and fuser are new, the backbone from its
classifier's weights.
"""
_base_ = ['../camera_lidar_swin.py']
_epochs = 6
start_weights = dict(
    file='work_dirs/nuscenes/lidar_sparse/epoch_20.pth', new=['encoders.camera.', 'fuser.'])
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-3, convert_to_iter_based=True
    ),
]
