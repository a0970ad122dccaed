r"""Boxes of the LiDAR alone: what passes the trunk, and what is read along a box's axes.

From nothing, four sweeps. A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/boxes.py --root data/world_long \
        --steps 600 --batch 2 --seeds 0 1 --no-latency --work-dir work_dirs/boxes
"""
recipe = 'world/lidar.py'
base = 'world/lidar.py'
_boxes = {
    'model.heads.map_segmentation': None, 'model.heads.occupancy': None, 'model.heads.lanes': None,
    'train_dataloader.dataset.reading.lidar_sweeps': 4, 'val_dataloader.dataset.reading.lidar_sweeps': 4,
    'test_dataloader.dataset.reading.lidar_sweeps': 4}
_passed = {'model.trunk.passed_channels': 24, 'model.heads.detection.in_channels': 88}
_aligned = {'model.heads.detection.branches.aligned_channels': 16}
rows = [
    dict(name='as it was', config='world/lidar.py', options=_boxes),
    dict(name='map passed', config='world/lidar.py', options={**_boxes, **_passed}),
    dict(name='along the box', config='world/lidar.py', options={**_boxes, **_aligned}),
    dict(name='map passed, along the box', config='world/lidar.py', options={
        **_boxes, **_passed, **_aligned}),
]
