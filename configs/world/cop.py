"""Collaborative Perceiver: height-guided sampling, global-local fusion over concatenation.

After Yuan et al. 2025, arXiv 2507.21358. No hyper-parameter of the publication can be read; bands and widths
are ours.
"""
_base_ = ['camera_lidar.py']
model = dict(fuser=dict(
    _delete_=True, type='CollaborativeFuser', grid={{_base_._voxel_grid}}, voxel_channels=32,
    band_channels=16, fuser=dict(type='ConcatFuser', in_channels=dict(camera=48, lidar=48), out_channels=64)))
