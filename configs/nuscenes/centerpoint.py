"""Boxes from the LiDAR by CenterPoint with pillars in its published form, for its published weights.

CenterPoint (Yin et al. 2021, arXiv 2006.11275) as mmdet3d 1.x has it in
centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d: pillars of 0.2 m, SECOND, six groups, rotated NMS.

    python tools/import_weights.py configs/nuscenes/centerpoint.py CHECKPOINT --source centerpoint --out FILE

Its weights see the world in the LiDAR's axes, so its pillars lie in them: y ahead, x to the right, the origin
on the roof. Its ground is the same, +-51.2 m about the LiDAR. Attributes are not among its weights.
"""
_base_ = ['lidar.py']
tasks = ('detection',)
_ground = dict(type='BEVGrid', x_range_m=(-50.26, 52.14), y_range_m=(-51.2, 51.2), z_range_m=(-3.16, 4.84))
_grid = dict(_ground, cell_m=0.8)
_points_m = (-50.26, -51.2, -3.16, 52.14, 51.2, 4.84)
_boxes_m = (-50.26, -51.2, -5, 52.14, 51.2, 5)
model = dict(
    encoders=dict(
        lidar=dict(
            _delete_=True, type='CenterPointPillars', pillar_grid=dict(_ground, cell_m=0.2), grid=_grid,
            axes=dict(origin_m=(0.94, 0.0, 1.84), quarter_turns=-1), max_points_per_pillar=20,
            export_sizes=dict(points=320_000, pillars=40_000))),
    fuser=dict(_delete_=True, type='OneSensor', in_channels=dict(lidar=384)),
    trunk=dict(_delete_=True, type='NoTrunk', out_channels=384),
    heads=dict(
        detection=dict(
            grid=_grid, in_channels=384,
            decoding=dict(peak_kernel=1, nms='rotated', iou=0.2))),
)
train_dataloader = dict(dataset=dict(pipeline=dict(range=dict(points_m=_points_m, boxes_m=_boxes_m))))
val_dataloader = dict(dataset=dict(pipeline=dict(range=dict(points_m=_points_m))))
test_dataloader = val_dataloader
