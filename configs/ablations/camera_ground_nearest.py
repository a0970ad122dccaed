"""Map, occupancy and lanes from cameras alone, with the lift of the shipped weights.

One nearest pixel of up to two cameras, by depth alone.
"""
_base_ = ['camera_ground.py']
model = dict(encoders=dict(camera={{_base_._camera_of_weights}}))
