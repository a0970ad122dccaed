"""nuScenes at full size: 256 x 704 images, ten LiDAR sweeps, class-balanced sampling.

Numbers marked [B] are those of BEVFusion (Liu et al. 2023, arXiv 2205.13542, its published nuScenes
configurations).
"""
_root, _version = 'data/nuscenes', 'v1.0-trainval'
# nuScenes' pictures; cameras unlike them are brought to their pixels per radian and horizon (docs/data.md)
_view = dict(size_hw=(900, 1600), focal_px=(1260.0, 805.0), horizon_px=480.0)
_image_size_hw = (256, 704)  # [B]
# [B] -5..3 m from the LiDAR, which is 1.84 m above our ground
_points_m = (-51.2, -51.2, -3.2, 51.2, 51.2, 4.8)
_boxes_m = (-51.2, -51.2, -5, 51.2, 51.2, 5)  # [B] by x and y
_collate = dict(type='collate', sensors=('camera', 'lidar'), image_size_hw=_image_size_hw)
_reading = dict(
    lidar_sweeps=9, radar_sweeps=0,  # [B] the key frame and nine earlier sweeps
    lane_protocol='maptr_v2_centerline')  # so that lanes mAP is MapTRv2's; 'maptr' has no centre lines
_common = dict(type='NuScenesDataset', root=_root, version=_version, sensors=('camera', 'lidar'))

train_dataloader = dict(
    batch_size=4,  # [B] 4 on each of 8 GPUs
    num_workers=4,
    persistent_workers=True,
    collate_fn=_collate,
    drop_last=True,
    sampler=dict(type='ClassBalancedSampler'),  # [B] CBGS (Zhu et al. 2019, arXiv 1908.09492)
    dataset=dict(
        split='train',
        **_common,
        reading=dict(bad_file='skip', **_reading),
        pipeline=dict(
            paste=None,  # ground-truth paste: configs/nuscenes/stages/lidar_paste.py
            # [B] resize 0.38..0.55, rotate 5.4 degrees, flip
            image=dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True, view=_view),
            # [B] but for the shift in height, which would move the road off the layer that reads it
            bev=dict(
                type='RandomFlipRotateScale', rotate_deg=45.0, scale=(0.9, 1.1), shift_std_m=(0.5, 0.5, 0.0)),
            range=dict(type='RangeFilter', points_m=_points_m, boxes_m=_boxes_m),
            shuffle=dict(type='PointShuffle'),  # [B]
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    collate_fn=_collate,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        split='val',
        test_mode=True,
        **_common,
        reading=_reading,
        pipeline=dict(
            # [B] resize 0.48
            image=dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=False, view=_view),
            range=dict(type='RangeFilter', points_m=_points_m),
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='MultiTaskMetric', root=_root, version=_version, split='val',
    options=dict(map_segmentation=dict(centre='lidar')))  # [B]
test_evaluator = val_evaluator
