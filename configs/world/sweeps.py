r"""The longer recipe with time in it: LiDAR sweeps of the last 0.2 s and radars of the last 0.4 s.

    python tools/make_world.py --out data/world_sweeps --scenes 120 --key-frames 12 --seed 1 \
        --image-size 225x400 --lidar-sweeps 4 --radar-sweeps 5
    python tools/create_data.py nuscenes --root data/world_sweeps --version v1.0-trainval \
        --lidar-sweeps 4 --radar-sweeps 5
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/sweeps.py --launcher pytorch

Every point brings its time lag, every radar target its Doppler velocity, so one frame says what moves. What
the sweeps cost the generator: docs/benchmarks/temporal.md. `long/2_drives.py` adds the memory.
"""
_base_ = ['robust.py']
_sensors = ('camera', 'lidar', 'radar')
model = dict(
    encoders=dict(
        lidar=dict(export_sizes=dict(points=200_000, pillars=24_000)),
        radar=dict(
            type='RadarEncoder', pillar_grid={{_base_._radar_pillar_grid}}, grid={{_base_._grid}},
            point_channels=(32,), channels=(32,), layers=(1,), out_channels=32,
            export_sizes=dict(points=6000, pillars=4000)),
    ),
    fuser=dict(in_channels=dict(radar=32)),
    heads=dict(detection=dict(losses={{_base_._velocity_losses}})),
)
_data = dict(
    collate_fn=dict(sensors=_sensors),
    dataset=dict(
        root='data/world_sweeps', sensors=_sensors, reading=dict(lidar_sweeps=4, radar_sweeps=5)))
_lost = dict(
    _delete_=True, type='SensorDropout',
    keep={'camera+radar': 0.25, 'lidar+radar': 0.1, 'camera+lidar+radar': 0.65})
train_dataloader = {**_data, 'dataset': {**_data['dataset'], 'pipeline': dict(sensors=_lost)}}
val_dataloader = _data
test_dataloader = _data
