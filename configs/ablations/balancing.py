"""The field on which balancers are compared: four tasks from the LiDAR alone, a step of two frames cheap.

Cells of 1.6 m, a trunk of three blocks and narrow heads. The LiDAR's encoder starts from
`data/weights/world_long.pth`: points and the first stage stay as they are, the second, which halves its map
here, and everything behind it learn.
Tasks are weighted by hand, as in the demo.
"""
_base_ = ['../world/lidar.py']
_root = 'data/demo_world'
_cell = dict(cell_m=1.6)
_data = dict(dataset=dict(root=_root, reading=dict(lidar_sweeps=4)))  # the clouds that the encoder knows
train_dataloader = dict(batch_size=2, **_data)
val_dataloader = _data
test_dataloader = _data
test_evaluator = dict(options=dict(occupancy=dict(rays=False)))
start_weights = dict(
    file='data/weights/world_long.pth', prefix=['encoders.lidar.'],
    new=['encoders.lidar.stages.1.0.downsample.'])
freeze = ['encoders.lidar.point_net.', 'encoders.lidar.stages.0.']
model = dict(
    encoders=dict(lidar=dict(grid=_cell)),
    trunk=dict(channels=(48, 64, 64), layers=(1, 1, 1)),
    heads=dict(
        detection=dict(grid=_cell, shared_channels=48, branches=dict(separate=False, velocity_unit=8.0)),
        map_segmentation=dict(grid=_cell, width=32, losses=dict(focal=320.0)),
        occupancy=dict(
            grid=_cell, width=48, hidden=64, work_cell_m=1.6, losses=dict(voxels_per_sample=4096)),
        lanes=dict(grid=_cell, features=dict(width=48))))
