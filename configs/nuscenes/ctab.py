"""Boxes and map from cameras and radars, joined by the cross-task attention bridge.

After Inanc & Erkent 2026, arXiv 2604.12918. What can be read of it: two tasks, both directions, deformable
attention on several scales, instance norms and learned upsampling in the map's decoder. It builds on RCBEVDet
as far as can be read (Lin et al., CVPR 2024, arXiv 2403.16440); published there and taken over: ResNet-50 on
256 x 704, depths of 1..60 m, maps of 128 x 128 cells of 0.8 m, radar pillars of 0.2 m with eight sweeps,
point widths 32 and 64, stages of 64, 128, 256 channels to 256, one group of ten classes, box losses a quarter
of the heatmap's, depth loss 3, AdamW, cyclic, weight decay 0.01, clipping at 5, 12 epochs with class
balancing. The map's decoder has BEVCar's layout (Schramm et al. 2024, arXiv 2403.11761). The map has a
seventh class, vehicle: `map/mIoU_seven` and `map/mIoU_four` are the paper's two means. Ours by inference: 8
heads, 4 points, 3 levels, a query per cell. Different: one frame instead of nine, concatenation instead of
mutual attention of camera and radar, two blocks of the dual stream.

The infos must list seven earlier radar sweeps (create_data.py --radar-sweeps 7); the LiDAR is read in
training alone, for depth.
"""
_base_ = ['camera.py']
tasks = ('detection', 'map_segmentation')
model = dict(
    encoders=dict(
        radar=dict(
            type='RadarEncoder', pillar_grid={{_base_._pillar_grid}}, grid={{_base_._grid}},
            point_channels=(32, 64), channels=(64, 128, 256), layers=(1, 1, 1), out_channels=256,
            streams=dict(blocks=2), export_sizes=dict(points=6000, pillars=4000))
    ),
    fuser=dict(in_channels=dict(radar=256)),
    bridge=dict(
        _delete_=True, type='CrossTaskBridge', grid={{_base_._grid}}, in_channels=256, tasks=tasks,
        exchange='both', levels=3, heads=8, points=4, stride=1),
    heads=dict(
        detection=dict(
            groups=(
                (
                    'car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle',
                    'bicycle', 'pedestrian', 'traffic_cone'),
            )
        ),
        map_segmentation=dict(
            decoder='instance_residual', layers=3, upsample='transposed', vehicles=True),
    ),
)
train_dataloader = dict(
    collate_fn=dict(sensors=('camera', 'lidar', 'radar')),
    dataset=dict(sensors=('camera', 'lidar', 'radar'), reading=dict(lidar_sweeps=0, radar_sweeps=7)))
_test = dict(collate_fn=dict(sensors=('camera', 'radar')),
             dataset=dict(sensors=('camera', 'radar'), reading=dict(radar_sweeps=7)))
val_dataloader = _test
test_dataloader = _test
optim_wrapper = dict(clip_grad=dict(max_norm=5))
train_cfg = dict(max_epochs=12)
param_scheduler = dict(type='OneCycle', epochs=12, rising=5, momentum=None)
