"""Map, occupancy and lanes from cameras alone on the synthetic world: what a lift is judged by.

In training the LiDAR still tells the depth network how far objects are.
"""
_base_ = ['../world/camera.py']
tasks = ('map_segmentation', 'occupancy', 'lanes')
