"""The strong recipe's third training, which may be left out: a memory of the last map, 6 epochs, streamed.

From `strong_2_joint.py`; the memory as in `../temporal.py`, whose drives are drawn so that every class comes
equally often.
"""
_base_ = ['strong_2_joint.py']
_whole_drives = dict(sampler=dict(_delete_=True, type='StreamSampler', shuffle=False))
model = dict(memory=dict(
    type='MapMemory', channels=256,
    grid=dict(type='BEVGrid', x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0), cell_m=0.6)))
start_weights = dict(
    _delete_=True, file='work_dirs/nuscenes/stages/strong_2_joint/epoch_6.pth', new=['memory.'])
train_dataloader = dict(
    sampler=dict(_delete_=True, type='StreamSampler', balanced=True),
    dataset=dict(reading=dict(bad_file='mask')))
val_dataloader = _whole_drives
test_dataloader = _whole_drives
