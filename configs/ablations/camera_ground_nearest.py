"""Map, occupancy and lanes from cameras alone, with the lift of former versions.

One nearest pixel of up to two cameras, by depth alone.
"""
_base_ = ['camera_ground.py']
model = dict(encoders=dict(camera=dict(
    grid=dict(heights_m=None, z_range_m=(-0.5, 3.5), height_cell_m=1.0),
    lift=dict(slots=2, read='nearest', heights=False), refine_layers=0)))
