r"""A quarter of each task's labels missing: masked alone against a teacher's labels; same steps.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/missing_labels.py --root data/demo_world \
        --steps 600 --seeds 0 1 --batch 2 --load-from data/weights/world_long.pth --freeze encoders

'masked' and 'pseudo-labels' go on from the same curriculum for as many steps, without and with the labels
that its model makes. 'all labels' has one training alone, as the curriculum has. Last, the heads of
'pseudo-labels' are tuned alone on the annotators' labels.
"""
recipe = 'demo.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='all labels', config='world/camera_lidar.py'),
    dict(name='curriculum', config='world/missing_labels/1_curriculum.py'),
    dict(name='masked', config='world/missing_labels/2_masked.py', start='curriculum'),
    dict(name='pseudo-labels', config='world/missing_labels/2_pseudo.py', start='curriculum', taught=True),
    dict(
        name='pseudo-labels, then heads', config='world/missing_labels/3_heads.py', start='pseudo-labels',
        freeze=('encoders.', 'fuser.', 'trunk.')),
]
