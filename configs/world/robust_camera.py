"""The longer recipe's model with better eyes: cameras lifted from features of stride 4, read between their
rows, learned from samples most of which have nothing else. It goes on from `data/weights/world_robust.pth`;
the LiDAR's encoder stays as it is.

    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/robust_camera.py --launcher pytorch
"""
_base_ = ['robust.py']
_image_size_hw = (128, 352)
_epochs = 2
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(
                type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True, scale=(1.04, 1.14), flip=0.0,
                rotate_deg=0.0),
            dict(type='RandomFlipRotateScale', flip_x=0.0, rotate_deg=0.0, scale=(1.0, 1.0), shift_std_m=0.0),
            dict(
                type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5),
                boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5)),
            dict(type='SensorDropout', keep={'camera': 0.6, 'camera+lidar': 0.4}),
        ]
    )
)
model = dict(
    encoders=dict(camera=dict(
        row_upsampling=2, backbone=dict(out_stages=(1, 2, 3, 4)), neck=dict(in_channels=(32, 64, 128, 256)))),
    heads=dict(map_segmentation=dict(weight=160.0)))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
start_weights = dict(file='data/weights/world_robust.pth', prefix=[
    'encoders.camera.backbone.', 'encoders.camera.depth_net.', 'encoders.camera.collapse.', 'encoders.lidar.',
    'fuser.', 'trunk.', 'heads.'])
freeze = ['encoders.lidar.']
