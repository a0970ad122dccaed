"""M3Net's second training: boxes and map with MAFI and its decoder, 12 epochs from `m3net_1_boxes.py`."""
_base_ = ['../m3net_transformer.py']
tasks = ('detection', 'map_segmentation')
_epochs, _rising = 12, 5
start_weights = dict(
    file='work_dirs/nuscenes/stages/m3net_1_boxes/epoch_6.pth',
    new=['fuser.features.', 'fuser.attention.', 'bridge.', 'heads.map_segmentation.'])
model = dict(bridge=dict(tasks=tasks))
train_dataloader = dict(sampler=dict(_delete_=True, type='ClassBalancedSampler'))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, end=_rising, T_max=_rising, eta_min_ratio=10,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=_rising, end=_epochs, T_max=_epochs - _rising,
        eta_min_ratio=1e-5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingMomentum', by_epoch=True, begin=0, end=_rising, T_max=_rising,
        eta_min_ratio=0.85 / 0.95, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingMomentum', by_epoch=True, begin=_rising, end=_epochs, T_max=_epochs - _rising,
        eta_min_ratio=1, convert_to_iter_based=True),
]
