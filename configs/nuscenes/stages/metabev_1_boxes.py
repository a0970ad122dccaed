"""MetaBEV's first of two trainings: boxes alone, 26 epochs (Ge et al., ICCV 2023, arXiv 2304.09801).

torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/metabev_1_boxes.py --launcher pytorch
torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/metabev_2_tasks.py --launcher pytorch
"""
_base_ = ['../metabev.py']
tasks = ('detection',)
_epochs, _rising = 26, 10
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
