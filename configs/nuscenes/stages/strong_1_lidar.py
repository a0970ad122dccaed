"""The strong recipe's first training: four tasks from the LiDAR alone, sparse pillars of 0.075 m, 20 epochs.

    python tools/create_data.py paste configs/nuscenes/stages/strong_1_lidar.py --workers 16
    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/strong_1_lidar.py --launcher pytorch
    torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/strong_2_joint.py --launcher pytorch

PillarNet-18's encoder (Shi et al. 2022, arXiv 2205.07403) on the ground of BEVFusion's boxes (+-54 m, 180 x
180 cells of 0.6 m), class balanced (CBGS). BEVFusion's LiDAR model comes before its cameras, too, and is
trained with ground-truth paste in all but its last five epochs. The first command makes the objects' database
(docs/data.md), the same as for `lidar_paste.py`; `pipeline.paste=None` trains without it.
"""
_base_ = ['../../_base_/nuscenes_54m.py']
model = dict(
    encoders=dict(
        camera=None,
        lidar=dict(
            type='SparseLidarEncoder',
            pillar_grid=dict(cell_m=0.075),
            point_channels=(32,),
            channels=(32, 64, 128, 256, 256),
            layers=(2, 2, 2, 2, 2),
            export_sizes=dict(points=320_000, pillars=160_000))),
    fuser=dict(in_channels=dict(camera=None)))
_lidar = dict(collate_fn=dict(sensors=('lidar',)), dataset=dict(sensors=('lidar',)))
train_dataloader = dict(_lidar, dataset=dict(
    sensors=('lidar',), pipeline=dict(paste=dict(_delete_=True, type='PasteObjects', min_points=5))))
val_dataloader = _lidar
test_dataloader = _lidar
custom_hooks = [
    dict(type='EMAHook', momentum=2e-4, priority='NORMAL'), dict(type='LoaderWaitHook'),
    dict(type='TaskGradientNormHook', interval=500), dict(type='PasteOffHook', last_epochs=5)]
