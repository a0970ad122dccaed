"""What ground-truth paste is worth: off and on, with LiDAR alone and with pictures beside it; same budget.

    python tools/create_data.py paste configs/world/paste.py
    python tools/compare_systems.py --list configs/comparisons/paste.py --steps 600 --seeds 0 1

A list for `tools/compare_systems.py --list`. What it is for are the rare classes (bus, trailer, motorcycle,
bicycle, construction_vehicle): AP of every class stands in `test.json` of each row's folder, as
`detection/AP_<class>`. The last pass over the data is without paste in every row. All rows go on from the
weights of the longer recipe: from nothing a few hundred steps find no rare object.
"""
recipe = 'world/camera_lidar.py'
base = 'world/camera_lidar.py'
_weights = 'work_dirs/world/robust/epoch_5.pth'
rows = [
    dict(name='LiDAR', config='world/lidar.py', start=_weights),
    dict(name='LiDAR, paste', config='world/paste_lidar.py', start=_weights),
    dict(name='cameras and LiDAR', config='world/camera_lidar.py', start=_weights),
    dict(name='cameras and LiDAR, paste', config='world/paste.py', start=_weights)]
