"""LiDAR alone with ground-truth paste in the first 15 of 20 epochs: the first stage of published recipes.

    python tools/create_data.py paste configs/nuscenes/stages/lidar_paste.py --workers 16
    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/lidar_paste.py --launcher pytorch

Boxes of every class are filled up to the numbers of CBGS (Zhu et al. 2019, arXiv 1908.09492), which
CenterPoint and TransFusion took over; the last five epochs see frames as they are, as TransFusion has it (Bai
et al. 2022, arXiv 2203.11496, by the name of fade strategy). `../lidar_sparse.py` is the same without.
"""
_base_ = ['../lidar_sparse.py']
train_dataloader = dict(dataset=dict(pipeline=dict(
    paste=dict(_delete_=True, type='PasteObjects', min_points=5))))
custom_hooks = [
    dict(type='EMAHook', momentum=2e-4, priority='NORMAL'), dict(type='LoaderWaitHook'),
    dict(type='TaskGradientNormHook', interval=500), dict(type='PasteOffHook', last_epochs=5)]
