r"""Four tasks with a memory of the last map: goes on from the weights of the longer recipe.

    python tools/make_world.py --out data/world --scenes 120 --key-frames 12 --seed 1 --image-size 225x400
    python tools/create_data.py nuscenes --root data/world --version v1.0-trainval \
        --lidar-sweeps 0 --radar-sweeps 0
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/temporal.py --launcher pytorch

Every process follows one drive, frame by frame; the memory is carried on without gradient (docs/temporal.md).
All weights but the memory's are those of `robust.py`, which is trained first; at the first step the model
equals that one.
"""
_base_ = ['robust.py']
_epochs = 3
_streams = dict(_delete_=True, type='StreamSampler')
_whole_drives = dict(sampler=dict(_delete_=True, type='StreamSampler', shuffle=False))
start_weights = dict(file='work_dirs/world/robust/epoch_5.pth', new=['memory.'])
model = dict(
    memory=dict(type='MapMemory', grid={{_base_._grid}}, channels={{_base_._width}}),
    heads=dict(detection=dict(losses={{_base_._velocity_losses}})))
train_dataloader = dict(sampler=_streams, dataset=dict(reading=dict(bad_file='mask')))
val_dataloader = _whole_drives
test_dataloader = _whole_drives
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
