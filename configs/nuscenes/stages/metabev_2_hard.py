"""MetaBEV's second training with hard experts: boxes and map, 10 epochs from `metabev_1_boxes.py`.

One expert a task in every layer, joined, as published for joint training (arXiv 2304.09801).
"""
_base_ = ['metabev_2_tasks.py']
model = dict(fuser=dict(ffn=dict(
    _delete_=True, type='HardFFN', tasks=('detection', 'map_segmentation'), ratio=2.0)))
custom_hooks = [dict(type='EMAHook', momentum=2e-4, priority='NORMAL'), dict(type='LoaderWaitHook'),
                dict(type='TaskGradientNormHook', interval=500)]
