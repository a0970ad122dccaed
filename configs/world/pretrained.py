"""The joint recipe, from the encoders, fuser and trunk that `pretrain.py` learned without labels."""
_base_ = ['camera_lidar.py']
start_weights = dict(
    file='work_dirs/world/pretrain/epoch_4.pth', prefix=['encoders.', 'fuser.', 'trunk.'])
