r"""The longest recipe, fourth training: the tasks' gradients at the shared map are aligned.

    python tools/train.py configs/world/long/4_aligned.py

It goes on from `3_boxes.py` in steps of two frames of one process. There the map's gradient is two to three
times the others' (docs/benchmarks/balancing.md has why that matters); `balance/...` in the log shows weights.
"""
_base_ = ['3_boxes.py']
_epochs = 3
start_weights = dict(_delete_=True, file='work_dirs/world/long/3_boxes/iter_1200.pth')
balancer = dict(type='AlignedMTL')
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
