r"""Four tasks from cameras and LiDAR, objects of other frames set into each, pictures with them.

    python tools/create_data.py paste configs/world/paste.py
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/paste.py --launcher pytorch

Of `camera_lidar.py`'s four epochs the last is without.
"""
_base_ = ['camera_lidar.py']
train_dataloader = dict(dataset=dict(pipeline=dict(paste=dict(_delete_=True, type='PasteObjects'))))
custom_hooks = [
    dict(type='LoaderWaitHook'), dict(type='TaskGradientNormHook', interval=500),
    dict(type='PasteOffHook', last_epochs=1)]
