"""The synthetic world (tools/make_world.py, then tools/create_data.py) at the small image size."""
_root = 'data/world'
# nuScenes' pictures; cameras unlike them are brought to their pixels per radian and horizon (docs/data.md)
_view = dict(size_hw=(900, 1600), focal_px=(1260.0, 805.0), horizon_px=480.0)
_image_size_hw = (128, 352)
_collate = dict(type='collate', sensors=('camera', 'lidar'), image_size_hw=_image_size_hw)
_reading = dict(lidar_sweeps=0, radar_sweeps=0)
_common = dict(type='NuScenesDataset', root=_root, version='v1.0-trainval', sensors=('camera', 'lidar'))

# Exact changes only: images cropped, left and right swapped. A shift or turn by parts of a cell blurs what a
# thousand frames teach, and a shift in height moves the road off the voxels that read it.
train_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    collate_fn=_collate,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        split='train',
        **_common,
        reading=dict(bad_file='skip', **_reading),
        pipeline=dict(
            paste=None,  # ground-truth paste: configs/world/paste.py
            image=dict(
                type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True, scale=(1.04, 1.14), flip=0.0,
                rotate_deg=0.0, view=_view),
            bev=dict(
                type='RandomFlipRotateScale', flip_x=0.0, rotate_deg=0.0, scale=(1.0, 1.0), shift_std_m=0.0),
            range=dict(
                type='RangeFilter', points_m=(-51.2, -51.2, -3, 51.2, 51.2, 5),
                boxes_m=(-51.2, -51.2, -5, 51.2, 51.2, 5)),
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    collate_fn=_collate,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        split='val',
        test_mode=True,
        **_common,
        reading=_reading,
        pipeline=dict(
            image=dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=False, view=_view)),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='MultiTaskMetric')
test_evaluator = val_evaluator
