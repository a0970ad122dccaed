"""MetaBEV's second training: boxes and map with routed experts, 10 epochs from `metabev_1_boxes.py`.

Published: the model of boxes gets the map's head and experts in the place of its feed-forwards, and all of it
learns on.
"""
_base_ = ['../metabev_moe_routed.py']
tasks = ('detection', 'map_segmentation')
_epochs, _rising = 10, 4
start_weights = dict(
    file='work_dirs/nuscenes/stages/metabev_1_boxes/epoch_26.pth',
    new=['fuser.layers.*.ffn.', 'heads.map_segmentation.'])
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
