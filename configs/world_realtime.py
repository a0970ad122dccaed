"""The small world model made smaller for real time on two CPU cores: half the depth bins, a narrower trunk, one lane layer.

docs/deployment.md has its loss of accuracy against configs/world_camera_lidar.py (tools/compare_systems.py --list
configs/_base_/comparison_realtime.py).
"""
_base_ = ['world_camera_lidar.py']
model = dict(
    encoders=dict(
        camera=dict(context_channels=24, out_channels=32, grid=dict(z_range_m=(-0.5, 3.5), height_cell_m=2.0),
                    depth_bins=dict(count=24)),
        lidar=dict(point_channels=(24,), channels=(32, 32), out_channels=32, export_points=40_000, export_pillars=9_000)),
    fuser=dict(in_channels=dict(camera=32, lidar=32)),
    trunk=dict(channels=(48, 64), layers=(1, 1), strides=(2, 2)),
    heads=dict(detection=dict(shared_channels=48, branch_channels=32), map_segmentation=dict(width=32),
               occupancy=dict(width=48, hidden=64), lanes=dict(layers=1)))
