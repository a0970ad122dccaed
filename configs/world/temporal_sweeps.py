"""`sweeps.py` with a memory: all that knows of time, streamed, from nothing."""
_base_ = ['sweeps.py']
_whole_drives = dict(sampler=dict(_delete_=True, type='StreamSampler', shuffle=False))
model = dict(memory=dict(type='MapMemory', grid={{_base_._grid}}, channels={{_base_._width}}))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='StreamSampler'), dataset=dict(reading=dict(bad_file='mask')))
val_dataloader = _whole_drives
test_dataloader = _whole_drives
