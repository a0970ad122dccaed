"""MetaBEV with routed experts (RM2oE) in every layer: 8 experts, 2 per token.

As published (arXiv 2304.09801), with one gate per task where the tasks part: in the last two layers, which
run once a task. The layers before have one gate, since all tasks share their map. The balance term's weight
is ours: the paper states none.
"""
_base_ = ['metabev.py']
model = dict(fuser=dict(ffn=dict(
    type='RoutedFFN', experts=8, top=2, balance=0.01,
    tasks=('detection', 'map_segmentation', 'occupancy', 'lanes'), task_layers=2)))
custom_hooks = [dict(type='LoaderWaitHook'), dict(type='TaskGradientNormHook', interval=500),
                dict(type='ExpertUsageHook', interval=100)]
