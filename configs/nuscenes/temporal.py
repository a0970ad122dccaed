"""The flagship on nuScenes with a memory of the last map, streamed.

A recurrent map as VideoBEV (Han et al. 2024, arXiv 2303.05970) carries one; a step costs one frame, whatever
the past. Every place of the batch follows a drive of its own; drives are drawn so that every class comes
equally often, which stands for CBGS. Augmentation, schedule and rate are the base's.

To go on from the trained flagship, add to a configuration of your own
`start_weights = dict(file='camera_lidar.pth', prefix=['encoders.', 'fuser.', 'trunk.', 'heads.'])`.
"""
_base_ = ['camera_lidar.py']
_whole_drives = dict(sampler=dict(_delete_=True, type='StreamSampler', shuffle=False))
model = dict(memory=dict(type='MapMemory', grid={{_base_._grid}}, channels={{_base_._width}}))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='StreamSampler', balanced=True),
    dataset=dict(reading=dict(bad_file='mask')))
val_dataloader = _whole_drives
test_dataloader = _whole_drives
