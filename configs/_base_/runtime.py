"""What every run shares: logs, checkpoints, seeds, processes."""
default_scope = 'perception'
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0, deterministic=False)
log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    pictures=dict(type='ValidationPictureHook'),  # both go by the clock: short trainings have none
    page=dict(type='TrainingPageHook'))
custom_hooks = [dict(type='LoaderWaitHook'), dict(type='TaskGradientNormHook', interval=500)]
visualizer = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
)
load_from = None
resume = False
freeze = []
balancer = dict(type='FixedWeights')
recompute = []
