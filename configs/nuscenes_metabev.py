"""MetaBEV on nuScenes at full size (Ge et al., ICCV 2023, arXiv 2304.09801), with four tasks instead of two.

Published there and taken over: queries on 180 x 180 cells of 0.6 m over +-54 m, width 256, 8 heads, 4 points, 4 cross-modal and 2
self-attention layers, AdamW with weight decay 0.05, 26 epochs for detection. Not published: the rate (the base's stays), the
feed-forward's hidden width (ours: twice the width), the position embedding (ours: learned rows and columns). Different: ResNet-50
for Swin-T, pillars of 0.15 m (made 0.6 m in two halvings) for sparse voxels of 0.075 m.
"""
_base_ = ['nuscenes_camera_lidar.py']
_ground = dict(x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0), cell_m=0.6)
_grid = dict(type='BEVGrid', **_ground)
_image_size_hw = (256, 704)
_points_m, _boxes_m = (-54.0, -54.0, -3.2, 54.0, 54.0, 4.8), (-54.0, -54.0, -5, 54.0, 54.0, 5)
model = dict(
    encoders=dict(camera=dict(grid=_ground), lidar=dict(pillar_grid={**_ground, 'cell_m': 0.15}, grid=_ground)),
    fuser=dict(_delete_=True, type='MetaBEV', in_channels=dict(camera=80, lidar=256), out_channels=256, grid=_grid, width=256,
               heads=8, points=4, cross_layers=4, self_layers=2, ffn=dict(type='PlainFFN', ratio=2.0)),
    heads=dict(detection=dict(grid=_ground), map_segmentation=dict(grid=_ground), occupancy=dict(grid=_ground),
               lanes=dict(grid=_ground)))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=True),
    dict(type='RandomFlipRotateScale', rotate_deg=45.0, scale=(0.9, 1.1), shift_std_m=0.5),
    dict(type='RangeFilter', points_m=_points_m, boxes_m=_boxes_m),
    dict(type='PointShuffle')]))
_test = dict(dataset=dict(pipeline=[dict(type='ResizeCropFlipRotate', size_hw=_image_size_hw, train=False),
                                    dict(type='RangeFilter', points_m=_points_m)]))
val_dataloader = _test
test_dataloader = _test
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
