"""Four tasks from cameras, LiDAR and five radars on the synthetic world: the radars join by concatenation.

Radar after RadarBEVNet (Lin et al., CVPR 2024, arXiv 2403.16440): RCS-aware scatter on; the dual stream is
`streams=dict(blocks=2)` (off here: its attention is quadratic in the targets). Published there: pillars of
0.2 m, widths 32 and 64, eight sweeps. Here key frames alone: the world by default writes no sweeps between
them (`radar_sweeps` where yours does).
"""
_base_ = ['camera_lidar.py']
model = dict(
    encoders=dict(
        radar=dict(
            type='RadarEncoder', pillar_grid={{_base_._radar_pillar_grid}}, grid={{_base_._grid}},
            point_channels=(32,), channels=(32,), layers=(1,), out_channels=32,
            export_sizes=dict(points=2000, pillars=1500))
    ),
    fuser=dict(in_channels=dict(radar=32)),
)
_sensors = ('camera', 'lidar', 'radar')
_data = dict(collate_fn=dict(sensors=_sensors), dataset=dict(sensors=_sensors, reading=dict(radar_sweeps=0)))
train_dataloader = _data
val_dataloader = _data
test_dataloader = _data
