r"""The longest recipe, second training: `1_moments.py` goes on with a memory, along whole drives.

    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/long/2_drives.py --launcher pytorch

It starts from the last checkpoint of two processes with one sample each (or one with two).
"""
_base_ = ['1_moments.py']
_epochs = 2
_whole_drives = dict(sampler=dict(_delete_=True, type='StreamSampler', shuffle=False))
model = dict(memory=dict(
    type='MapMemory', grid={{_base_._grid}}, channels={{_base_._width}}, motion_channels={{_base_._width}}))
start_weights = dict(
    _delete_=True, file='work_dirs/world/long/1_moments/iter_1800.pth', new=['memory.'])
train_dataloader = dict(
    sampler=dict(_delete_=True, type='StreamSampler'), dataset=dict(reading=dict(bad_file='mask')))
val_dataloader = _whole_drives
test_dataloader = _whole_drives
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
