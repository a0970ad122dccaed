"""The longer recipe's model with finer camera features.

Cameras are lifted from features of stride 4 and learn from samples most of which
have nothing else. It goes on from `work_dirs/world/robust/epoch_5.pth`; the LiDAR's encoder stays as it is.

    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/robust_camera.py --launcher pytorch
"""
_base_ = ['robust.py']
_epochs = 2
train_dataloader = dict(dataset=dict(pipeline=dict(
    sensors=dict(keep={'_delete_': True, 'camera': 0.6, 'camera+lidar': 0.4}))))
model = dict(
    encoders=dict(camera={{_base_._camera_stride_4}}),
    heads=dict(map_segmentation=dict(losses=dict(focal=160.0))))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
start_weights = dict(file='work_dirs/world/robust/epoch_5.pth', new=['encoders.camera.neck.'])
freeze = ['encoders.lidar.']
