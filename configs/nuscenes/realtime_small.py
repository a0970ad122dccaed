"""Half the arithmetic of the real-time network: smaller images, a narrower trunk, narrower branches.

ResNet-18 on 160 x 448 images in place of 256 x 704 (its published weights fit either), 96 channels in place
of 128. Not trained: what it loses against configs/nuscenes/realtime.py is not known.
"""
_base_ = ['realtime.py']
_width = 96
_image_size_hw = (160, 448)
_data = dict(
    collate_fn=dict(image_size_hw=_image_size_hw),
    dataset=dict(pipeline=dict(image=dict(size_hw=_image_size_hw))))
train_dataloader = _data
val_dataloader = _data
test_dataloader = _data
model = dict(
    fuser=dict(out_channels=_width),
    trunk=dict(in_channels=_width, out_channels=_width),
    heads=dict(
        detection=dict(in_channels=_width, branches=dict(channels=24)),
        map_segmentation=dict(in_channels=_width, width=48),
        occupancy=dict(in_channels=_width, width=64, hidden=96),
        lanes=dict(in_channels=_width)),
)
