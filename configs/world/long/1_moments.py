r"""The longest recipe, first training: all sensors with their sweeps, four tasks, one moment at a time.

    python tools/make_world.py --out data/world_long --scenes 180 --key-frames 8 --seed 21 \
        --image-size 225x400 --lidar-sweeps 4 --radar-sweeps 5
    python tools/create_data.py nuscenes --root data/world_long --version v1.0-trainval \
        --lidar-sweeps 4 --radar-sweeps 5
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/long/1_moments.py --launcher pytorch

1,200 frames, 4 times. What `../robust.py` has too starts from its weights: all but the radars, the ground
that the lift reads, and the numbers of a box. `2_drives.py` goes on with a memory.
"""
_base_ = ['../sweeps.py']
_epochs = 4
_world = dict(dataset=dict(root='data/world_long'))
start_weights = dict(
    file='data/weights/world_robust.pth',
    prefix=[
        'encoders.camera.backbone.', 'encoders.camera.neck.', 'encoders.camera.depth_net.', 'encoders.lidar.',
        'fuser.', 'trunk.', 'heads.'],
    new=[
        'encoders.camera.depth_net.height.', 'fuser.absent.radar', 'heads.detection.branches.', '*.updates'],
    more_inputs=['fuser.mix.0.weight'])
# in place of what `robust.py` keeps for its own weights: the lift that reads the ground, a hidden layer for
# each number of a box, and what lets a short training learn velocities (docs/benchmarks/temporal.md)
model = dict(
    encoders=dict(camera=dict(
        grid=dict(heights_m=(0.0, 0.8, 2.0), z_range_m=None, height_cell_m=None),
        lift=dict(slots=1, read='bilinear', heights=True), refine_layers=1)),
    heads=dict(
        detection=dict(
            branches=dict(channels=32, separate=True, velocity_unit=8.0),
            losses=dict(code=(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), moving=4.0)),
        map_segmentation=dict(losses=dict(focal=160.0))))
train_dataloader = _world
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
