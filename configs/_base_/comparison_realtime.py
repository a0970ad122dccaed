"""What the variant for real time costs in accuracy (tools/compare_systems.py --list): it and its base under one budget, both from
nothing, since their encoders differ.
"""
recipe = 'demo.py'
base = 'world_camera_lidar.py'
rows = [
    dict(name='base', config='world_camera_lidar.py'),
    dict(name='real time', config='world_realtime.py'),
]
