"""The flagship on nuScenes: four tasks from cameras and LiDAR, 20 epochs with CBGS on 8 GPUs.

Nearest published recipes: BEVFusion's map model (Liu et al. 2023, arXiv 2205.13542) for sensors,
augmentation, trunk and schedule, CenterPoint (Yin et al. 2021, arXiv 2006.11275) for pillars and boxes,
FlashOcc (Yu et al. 2023, arXiv 2311.12058) for occupancy, MapTRv2 (Liao et al. 2024, arXiv 2308.05736) for
lanes; the bases name the source beside each number.

The backbone starts from torchvision's ImageNet weights, as all of these do: put `resnet50-*.pth` where
`pretrained` says (or set model.encoders.camera.backbone.pretrained=None to start from nothing, which costs
accuracy).
"""
_base_ = [
    '../_base_/runtime.py', '../_base_/schedule_cyclic.py', '../_base_/data_nuscenes.py',
    '../_base_/model_full.py']
model = dict(encoders=dict(camera=dict(backbone=dict(pretrained='data/pretrained/resnet50.pth'))))
# CenterPoint: one cycle to 1e-3 in 20 epochs; BEVFusion: cyclic, 1e-4 times 10, 20 epochs, weight decay 0.01,
# clipping at 35
optim_wrapper = dict(optimizer=dict(lr=1e-4))
# BEVFusion: 8 GPUs with 4 samples each; other sizes scale the rate
auto_scale_lr = dict(enable=True, base_batch_size=32)
default_hooks = dict(checkpoint=dict(save_best='auto', rule='greater'))  # NDS, or the first task's main score
custom_hooks = [dict(type='EMAHook', momentum=2e-4, priority='NORMAL'),  # FlashOcc averages weights too
                dict(type='LoaderWaitHook'), dict(type='TaskGradientNormHook', interval=500)]
