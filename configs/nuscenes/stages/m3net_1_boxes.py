"""M3Net's first of three trainings: boxes alone, without its decoder (Chen et al. 2025, arXiv 2503.18100).

    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/m3net_1_boxes.py --launcher pytorch

and so on with `m3net_2_map.py` and `m3net_3_occupancy.py`, each of which starts from the last checkpoint of
the one before. Published (its released configuration): 6 epochs with plain concatenation and class balancing,
12 of boxes and map, 15 of three tasks without class balancing.
"""
_base_ = ['../m3net_transformer.py']
tasks = ('detection',)
model = dict(
    fuser=dict(
        _delete_=True, type='ConcatFuser', in_channels=dict(camera=80, lidar=256), out_channels=256),
    bridge=None)
train_dataloader = dict(sampler=dict(_delete_=True, type='ClassBalancedSampler'))
train_cfg = dict(max_epochs=6)
param_scheduler = dict(type='OneCycle', epochs=6, rising=2)
