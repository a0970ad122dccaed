"""Collaborative Perceiver on nuScenes: boxes from cameras, occupancy beside them.

After Yuan et al. 2025, arXiv 2507.21358. Published in words alone: camera-only detection with occupancy as
the second task, labels with local density, sampling by height, global-local fusion. No size, width or rate
can be read; everything here is camera.py's (ResNet-50, 256 x 704, 128 x 128 cells of 0.8 m), the bands,
their width and the weight of the density are ours. Labels with densities come from tools/make_occupancy.py;
with Occ3D's own the weight does nothing.
"""
_base_ = ['camera.py']
tasks = ('detection', 'occupancy')
model = dict(
    fuser=dict(
        _delete_=True, type='CollaborativeFuser', grid={{_base_._voxel_grid}}, voxel_channels=80,
        band_channels=64,
        fuser=dict(type='ConcatFuser', in_channels=dict(camera=80), out_channels=256)),
    heads=dict(occupancy=dict(losses=dict(density_weight=1.0))),
)
