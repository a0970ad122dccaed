"""M3Net on nuScenes at full size, Transformer form, three tasks as published.

After Chen et al., AAAI 2025, arXiv 2503.18100. Published (its released configuration) and taken over: +-54 m,
maps of 180 x 180 cells of 0.6 m, 80 (cameras) and 256 channels (LiDAR) to 256 by MAFI; decoder of 6 layers, 8
heads, 4 points, feed-forward 1024, one token per cell, 200 detection queries, 5 strips of 6 map queries;
losses 6 (first heatmap), 20 (first segmentation), 40 (last segmentation) and 1 (each of four occupancy
terms), here divided by 6 because the last heatmap counts 1; AdamW in one cycle to 8e-4 over 15 epochs, 8
samples a step, weight decay 0.01, clipping at 10, no class balancing for three tasks. Published, it starts
from two shorter trainings (boxes, then boxes and map), as `stages/m3net_*.py` do. Different: ResNet-50 for
Swin-T, pillars for voxels, CenterHead on the written-back map for a Hungarian loss, a lattice of 30 x 30
occupancy queries for one per non-empty voxel, occupancy on Occ3D's voxels, ground-truth sampling left out.
"""
_base_ = ['../_base_/nuscenes_54m.py']
tasks = ('detection', 'map_segmentation', 'occupancy')
_weight = 1 / 6
model = dict(
    norm_momentum=0.03,  # one sample a GPU: running statistics over 33 of them, as in the small models
    fuser=dict(_delete_=True, type='MAFI', in_channels=dict(camera=80, lidar=256), out_channels=256),
    bridge=dict(
        _delete_=True, type='M3NetBridge', grid={{_base_._grid}}, in_channels=256, tasks=tasks,
        map_grid={{_base_._map_grid}},
        decoder=dict(variant='transformer', layers=6, heads=8, points=4, feedforward=1024, stride=1),
        queries=dict(detection=200, map_strips=5, occupancy_stride=6),
        losses=dict(first_heatmap=6 * _weight, first_focal=20 * _weight)),
    heads=dict(
        map_segmentation=dict(losses=dict(focal=40 * _weight)),
        occupancy=dict(losses=dict(
            cross_entropy=_weight, lovasz=_weight, semantic_affinity=_weight, geometric_affinity=_weight)),
    ),
)
train_dataloader = dict(batch_size=1, sampler=dict(type='SeededSampler', shuffle=True))
auto_scale_lr = dict(enable=True, base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=8e-5), clip_grad=dict(max_norm=10))  # the cycle rises tenfold
train_cfg = dict(max_epochs=15)
param_scheduler = dict(type='OneCycle', epochs=15, rising=6)
