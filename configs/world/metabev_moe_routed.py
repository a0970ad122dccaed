"""MetaBEV with routed experts (RM2oE) in every layer: 8 experts, 2 per token.

As published (arXiv 2304.09801). One gate for all tasks, which share this map. The balance term's weight is
ours: the paper states none.
"""
_base_ = ['metabev.py']
model = dict(fuser=dict(ffn=dict(type='RoutedFFN', experts=8, top=2, balance=0.01)))
custom_hooks = [dict(type='LoaderWaitHook'), dict(type='TaskGradientNormHook', interval=500),
                dict(type='ExpertUsageHook', interval=100)]
