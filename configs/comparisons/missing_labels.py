r"""A quarter of each task's labels missing: masked alone against a teacher's labels; same steps.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/missing_labels.py --root data/world_long \
        --steps 300 --seeds 0 1 --batch 2 --limit 120 --load-from data/weights/world_long.pth \
        --freeze encoders --no-latency --work-dir work_dirs/missing_labels

The curriculum begins with boxes and occupancy; map and lanes join after a third of its steps. 'masked' and
'pseudo-labels' go on from the same curriculum for as many steps, without and with the labels that its model
makes. 'all labels' has one training alone, as the curriculum has. Last, the heads of 'pseudo-labels' are
tuned alone on the annotators' labels.
"""
recipe = 'demo.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='all labels', config='world/camera_lidar.py'),
    dict(name='curriculum', config='world/missing_labels/1_curriculum.py', options={
        'balancer.begin': dict(map_segmentation=100, lanes=100)}),
    dict(name='masked', config='world/missing_labels/2_masked.py', start='curriculum'),
    dict(name='pseudo-labels', config='world/missing_labels/2_pseudo.py', start='curriculum', taught=True),
    dict(
        name='pseudo-labels, then heads', config='world/missing_labels/3_heads.py', start='pseudo-labels',
        freeze=('encoders.', 'fuser.', 'trunk.')),
]
