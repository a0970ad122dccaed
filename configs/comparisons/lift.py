"""What the cameras' lift is worth, learned: the ground's three tasks from cameras alone.

A list for `tools/compare_systems.py --list`. Its recipe has the present lift; with `--recipe configs/demo.py`
the same row gets the lift of the shipped weights.
"""
recipe = 'world/camera_lidar.py'
base = 'world/camera_lidar.py'
rows = [dict(name='map, occupancy and lanes from cameras', config='ablations/camera_ground.py')]
