"""Boxes from the LiDAR by CenterPoint with voxels in its published form, for its published weights.

CenterPoint (Yin et al. 2021, arXiv 2006.11275) as mmdet3d 1.x has it in
centerpoint_voxel0075_second_secfpn_8xb4-cyclic-20e_nus-3d: voxels of 0.075 x 0.075 x 0.2 m, sparse 3-D
convolutions, SECOND, six groups, rotated NMS. BEVFusion and TransFusion have the same encoder.

    python tools/import_weights.py configs/nuscenes/centerpoint_voxel.py CHECKPOINT \
        --source centerpoint_voxels --out FILE

Its weights see the world in the LiDAR's axes, so its voxels lie in them: y ahead, x to the right, the origin
on the roof. Its ground is the same, +-54 m about the LiDAR. Attributes are not among its weights. The encoder
at this size does not export: docs/systems.md.
"""
_base_ = ['lidar.py']
tasks = ('detection',)
_ground = dict(type='BEVGrid', x_range_m=(-53.06, 54.94), y_range_m=(-54.0, 54.0), z_range_m=(-3.16, 4.84))
_grid = dict(_ground, cell_m=0.6)
_points_m = (-53.06, -54.0, -3.16, 54.94, 54.0, 4.84)
_boxes_m = (-53.06, -54.0, -5, 54.94, 54.0, 5)
model = dict(
    encoders=dict(
        lidar=dict(
            _delete_=True, type='VoxelNet', voxel_grid=dict(_ground, cell_m=0.075, height_cell_m=0.2),
            grid=_grid, axes=dict(origin_m=(0.94, 0.0, 1.84), quarter_turns=-1),
            sizes=dict(points=10, voxels=120_000))),
    fuser=dict(_delete_=True, type='OneSensor', in_channels=dict(lidar=512)),
    trunk=dict(_delete_=True, type='NoTrunk', out_channels=512),
    heads=dict(
        detection=dict(
            grid=_grid, in_channels=512,
            decoding=dict(peak_kernel=1, nms='rotated', iou=0.2))),
)
train_dataloader = dict(dataset=dict(pipeline=dict(range=dict(points_m=_points_m, boxes_m=_boxes_m))))
val_dataloader = dict(dataset=dict(pipeline=dict(range=dict(points_m=_points_m))))
test_dataloader = val_dataloader
