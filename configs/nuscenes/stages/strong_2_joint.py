"""The strong recipe's second training: cameras beside the LiDAR, 6 epochs from `strong_1_lidar.py`.

Cameras as BEVFusion has them (Liu et al. 2023, arXiv 2205.13542): Swin-T and its pyramid; the depth network
reads the LiDAR's depths and the calibration (BEVDepth, arXiv 2206.10092). Swin-T starts from torchvision's
ImageNet weights in `data/pretrained/swin_t.pth`; BEVFusion's have seen nuImages too
(`tools/import_weights.py --source swin`, then `pretrained=None` and a second entry of `start_weights`). Rate,
warm-up and cosine are those of `camera_lidar.py`: BEVFusion's second training.
"""
_base_ = ['../../_base_/nuscenes_54m.py']
_epochs = 6
model = dict(
    encoders=dict(
        camera=dict(
            backbone=dict(
                _delete_=True, type='SwinTransformer', out_stages=(2, 3, 4), checkpoint=True,
                pretrained='data/pretrained/swin_t.pth'),
            neck=dict(_delete_=True, type='GeneralizedLSSFPN', in_channels=(192, 384, 768), out_channels=256),
            depth=dict(camera_aware=True, lidar_strides=(4, 2), layers=2)),
        lidar=dict(
            type='SparseLidarEncoder',
            pillar_grid=dict(cell_m=0.075),
            point_channels=(32,),
            channels=(32, 64, 128, 256, 256),
            layers=(2, 2, 2, 2, 2),
            export_sizes=dict(points=320_000, pillars=160_000))))
start_weights = dict(
    file='work_dirs/nuscenes/stages/strong_1_lidar/epoch_20.pth', new=['encoders.camera.', 'fuser.'])
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(custom_keys={'relative_position_bias_table': dict(lr_mult=0.5, decay_mult=0.0)}))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-3, convert_to_iter_based=True
    ),
]
