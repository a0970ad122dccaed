"""What is left without a sensor when training is long (tools/compare_systems.py --list): all weights but the fuser's come from
the longer recipe; meta-BEV, then switched-modality training, as published a second one.
"""
recipe = 'demo.py'
base = 'world_camera_lidar.py'
rows = [
    dict(name='meta-BEV', config='world_metabev.py', start='data/weights/world_robust.pth', steps=220),
    dict(name='meta-BEV, switched', config='world_metabev_switched.py', start='meta-BEV', steps=440),
]
