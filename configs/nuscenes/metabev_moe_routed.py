"""MetaBEV at full size with routed experts (RM2oE): 8 experts, 2 per token.

The best of a table of arXiv 2304.09801. Published: 10 epochs of joint training from the detection model, as
`stages/metabev_2_tasks.py` has it. The balance term's weight is ours.
"""
_base_ = ['metabev.py']
model = dict(
    fuser=dict(
        ffn=dict(
            _delete_=True, type='RoutedFFN', experts=8, top=2, balance=0.01, ratio=2.0,
            tasks=('detection', 'map_segmentation', 'occupancy', 'lanes'), task_layers=2)
    )
)
custom_hooks = [dict(type='EMAHook', momentum=2e-4, priority='NORMAL'), dict(type='LoaderWaitHook'),
                dict(type='TaskGradientNormHook', interval=500), dict(type='ExpertUsageHook', interval=100)]
