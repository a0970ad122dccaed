"""Meta-BEV with switched modalities in a longer training, behind the encoders of `world/robust_camera.py`;
cameras alone a little more often than a third.
"""
_base_ = ['metabev_switched.py']
_image_size_hw = (128, 352)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True),
            dict(type='RandomFlipRotateScale', rotate_deg=22.5, scale=(0.95, 1.05)),
            dict(
                type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5),
                boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5)),
            dict(type='SensorDropout', keep={'camera': 0.4, 'lidar': 0.3, 'camera+lidar': 0.3}),
        ]
    )
)
model = dict(encoders=dict(camera=dict(
    row_upsampling=2, backbone=dict(out_stages=(1, 2, 3, 4)), neck=dict(in_channels=(32, 64, 128, 256)))))
