"""The flagship with BEVFusion's cameras and fine pillars: Swin-T, its neck, depth from images and LiDAR.

BEVFusion (Liu et al. 2023, arXiv 2205.13542) as its published configurations for boxes have it: Swin-T with
drop path 0.2, maps of strides 8 to 32 joined by its neck, a depth network that reads the LiDAR's depths
beside the features and has no supervision (DepthLSS). LiDAR: PillarNet-18's sparse stages from 0.1 m, where
BEVFusion has sparse voxels of 0.075 m. The lift, the fuser's grid and the four tasks are the flagship's.

Swin-T starts from torchvision's `swin_t-*.pth` (put it where `pretrained` says); nuImages weights and
BEVFusion's own camera branch come by tools/import_weights.py (docs/configurations.md). In two stages, as
published, and from pillars of 0.075 m: stages/strong_1_lidar.py, then stages/strong_2_joint.py.
"""
_base_ = ['camera_lidar.py']
model = dict(
    encoders=dict(
        camera=dict(
            backbone=dict(
                _delete_=True, type='SwinTransformer', drop_path=0.2, checkpoint=True,
                pretrained='data/pretrained/swin_t.pth'),
            neck=dict(
                _delete_=True, type='GeneralizedLSSFPN', in_channels=(192, 384, 768), out_channels=256),
            depth=dict(loss_weight=0.0, lidar_strides=(4, 2), layers=2)),
        lidar=dict(
            type='SparseLidarEncoder', pillar_grid=dict(cell_m=0.1), point_channels=(32,),
            channels=(32, 64, 128, 256, 256), layers=(2, 2, 2, 2, 2),
            export_sizes=dict(points=320_000, pillars=120_000))),
)
# BEVFusion: no decay of the tables of offsets; the backbone's share of the rate is the flagship's
optim_wrapper = dict(paramwise_cfg=dict(
    custom_keys={'relative_position_bias_table': dict(lr_mult=0.5, decay_mult=0.0)}))
