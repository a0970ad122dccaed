"""The one-cycle schedule of SECOND and BEVFusion.

The rate rises tenfold over 40 % of the run and falls to almost nothing.
"""
# after the first epoch, so that a mistake shows in an hour; then after every fifth, and the last
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=1, dynamic_intervals=[(3, 5)])
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='GuardedOptimWrapper', dtype='float32', accumulative_counts=1,
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
    paramwise_cfg=dict(custom_keys={'encoders.camera.backbone': dict(lr_mult=0.5)}, norm_decay_mult=0.0))
param_scheduler = dict(type='OneCycle', epochs=20, rising=8)
