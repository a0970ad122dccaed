"""M3Net's first of three trainings: boxes alone, without its decoder (Chen et al. 2025, arXiv 2503.18100).

    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/m3net_1_boxes.py --launcher pytorch

and so on with `m3net_2_map.py` and `m3net_3_occupancy.py`, each of which starts from the last checkpoint of
the one before. Published (its released configuration): 6 epochs with plain concatenation and class balancing,
12 of boxes and map, 15 of three tasks without class balancing.
"""
_base_ = ['../m3net_transformer.py']
tasks = ('detection',)
_epochs, _rising = 6, 2
model = dict(
    fuser=dict(
        _delete_=True, type='ConcatFuser', in_channels=dict(camera=80, lidar=256), out_channels=256),
    bridge=None)
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
