"""What is left without a sensor when training is long: meta-BEV with switched modalities.

A list for `tools/compare_systems.py --list`. Encoders, trunk and heads start from `world/robust_camera.py`,
which is trained first.
"""
recipe = 'demo.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='meta-BEV, switched', config='world/metabev_robust.py', steps=660,
         start='work_dirs/world/robust_camera/epoch_2.pth'),
]
