r"""What pre-training without labels saves: the joint recipe from nothing, and from it in fewer steps.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/pretraining.py --root data/demo_world \
        --steps 1000 --seeds 0 1 --batch 2

The last row has 70 % of those steps.
"""
recipe = 'world/camera_lidar.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='from nothing', config='world/camera_lidar.py'),
    dict(name='pre-training', config='world/pretrain.py'),
    dict(name='pre-trained', config='world/pretrained.py', start='pre-training'),
    dict(name='pre-trained, 700 steps', config='world/pretrained.py', start='pre-training', steps=700),
]
