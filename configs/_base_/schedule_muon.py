"""The schedule of the small models: Muon, a short warm-up, a cosine to a hundredth.

The warm-up is counted in steps; bfloat16 where the machine computes it.

Convolutions learn by Muon. What attends (queries, projections) does not bear steps of that size: AdamW at a
third of the rate.
"""
_adamw = dict(muon=False)
_attention = dict(muon=False, lr_mult=0.3)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='GuardedOptimWrapper',
    dtype='auto',
    accumulative_counts=1,
    optimizer=dict(type='MuonAdamW', lr=3e-3, weight_decay=0.01, scale=1.5),
    paramwise_cfg=dict(
        custom_keys={
            'occupancy.classifier': _adamw, 'lanes.decoder': _attention, 'fuser.queries': _attention,
            'fuser.rows': _attention, 'fuser.columns': _attention, 'fuser.layers': _attention,
            'bridge.query_generators': _attention, 'bridge.writers': _attention,
            'bridge.layers': _attention, 'bridge.exchanges': _attention}
    ),
    clip_grad=dict(max_norm=100, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=4, eta_min_ratio=1e-2, convert_to_iter_based=True)]
