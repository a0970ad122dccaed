r"""The longest recipe, first training: all sensors with their sweeps, four tasks, one moment at a time.

    python tools/make_world.py --out data/world_long --scenes 180 --key-frames 8 --seed 21 \
        --image-size 225x400 --lidar-sweeps 4 --radar-sweeps 5
    python tools/create_data.py nuscenes --root data/world_long --version v1.0-trainval \
        --lidar-sweeps 4 --radar-sweeps 5
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/long/1_moments.py --launcher pytorch

1,200 frames, 3 times. What `../robust.py` has too, all but the radars, starts from its weights: train that
first. `2_drives.py` goes on with a memory, `3_boxes.py` and `4_aligned.py` from there. The shipped weights
began instead with `robust.py`'s of an earlier form, and had a point's features in units from the fourth
training on (docs/benchmarks/training.md).
"""
_base_ = ['../sweeps.py']
_epochs = 3
_world = dict(dataset=dict(root='data/world_long'))
start_weights = dict(
    file='work_dirs/world/robust/epoch_5.pth',
    new=['encoders.radar.', 'fuser.absent.radar', '*.updates'], more_inputs=['fuser.mix.0.weight'])
model = dict(heads=dict(map_segmentation=dict(losses=dict(focal=160.0))))
# any of them may be missing, the radars in a third: a car may have none
_lost = dict(
    _delete_=True, type='SensorDropout',
    keep={
        'camera+lidar+radar': 0.45, 'camera+lidar': 0.2, 'camera+radar': 0.15, 'lidar+radar': 0.1,
        'camera': 0.05, 'lidar': 0.05})
train_dataloader = dict(dataset=dict(root='data/world_long', pipeline=dict(sensors=_lost)))
val_dataloader = _world
test_dataloader = _world
train_cfg = dict(max_epochs=_epochs, val_begin=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=5e-2, convert_to_iter_based=True
    ),
]
# a day's work is never lost
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=2))
