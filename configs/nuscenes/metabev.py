"""MetaBEV on nuScenes at full size (Ge et al., ICCV 2023, arXiv 2304.09801), with four tasks instead of two.

Published there and taken over: queries on 180 x 180 cells of 0.6 m over +-54 m, width 256, 8 heads, 4 points,
4 cross-modal and 2 self-attention layers, AdamW with weight decay 0.05. Not published: the rate (the base's
stays), the feed-forward's hidden width (ours: twice the width), the position embedding (ours: learned rows
and columns). Different: ResNet-50 for Swin-T, pillars of 0.15 m for sparse voxels of 0.075 m, four tasks at
once for 20 epochs with the flagship's weights of losses (published: boxes for 26 epochs or the map for 20;
from the boxes' model both for 10, boxes to map 10 to 1).
"""
_base_ = ['../_base_/nuscenes_54m.py']
model = dict(
    fuser=dict(
        _delete_=True, type='MetaBEV', in_channels=dict(camera=80, lidar=256), out_channels=256,
        grid={{_base_._grid}}, width=256, heads=8, points=4, cross_layers=4, self_layers=2,
        ffn=dict(type='PlainFFN', ratio=2.0))
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
