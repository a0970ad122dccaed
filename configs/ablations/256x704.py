"""The synthetic world with images of the published size, four times the pixels of the other configurations of
the world.

    python tools/make_world.py --out data/world_large --scenes 90 --key-frames 4 --seed 5 --image-size 450x800
    python tools/create_data.py nuscenes --root data/world_large --version v1.0-trainval --lidar-sweeps 0
    --radar-sweeps 2

What a sensor is worth depends on how much it sees: docs/world.md compares cameras, LiDAR and radars with this
recipe.
"""
_base_ = ['../world/camera_lidar.py']
_image_size_hw = (256, 704)
_data = dict(collate_fn=dict(image_size_hw=_image_size_hw), dataset=dict(root='data/world_large'))
train_dataloader = dict(**_data)
train_dataloader['dataset'] = dict(
    root='data/world_large',
    pipeline=[
        dict(
            type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True, scale=(1.04, 1.14), flip=0.0,
            rotate_deg=0.0),
        dict(type='RandomFlipRotateScale', flip_x=0.0, rotate_deg=0.0, scale=(1.0, 1.0), shift_std_m=0.0),
        dict(
            type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5),
            boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5)),
    ],
)
_test = dict(collate_fn=dict(image_size_hw=_image_size_hw), dataset=dict(root='data/world_large', pipeline=[
    dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=False)]))
val_dataloader = _test
test_dataloader = _test
