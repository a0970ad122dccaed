r"""The synthetic world with images of the published size.

They have four times the pixels of the world's other configurations.

    python tools/make_world.py --out data/world_large --scenes 90 --key-frames 4 --seed 5 --image-size 450x800
    python tools/create_data.py nuscenes --root data/world_large --version v1.0-trainval \
        --lidar-sweeps 0 --radar-sweeps 2

What a sensor is worth depends on how much it sees: docs/world.md compares cameras, LiDAR and radars with this
recipe.
"""
_base_ = ['../world/camera_lidar.py']
_image_size_hw = (256, 704)
_data = dict(
    collate_fn=dict(image_size_hw=_image_size_hw),
    dataset=dict(root='data/world_large', pipeline=dict(image=dict(size_hw=_image_size_hw))))
train_dataloader = _data
val_dataloader = _data
test_dataloader = _data
