r"""What units of a point's features are worth to boxes from the LiDAR alone, and what weights of heights are.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/point_units.py --root data/world_long \
        --steps 600 --batch 2 --seeds 0 1 --no-latency --work-dir work_dirs/point_units
"""
recipe = 'world/lidar.py'
base = 'world/lidar.py'
_boxes = {
    'model.heads.map_segmentation': None, 'model.heads.occupancy': None, 'model.heads.lanes': None,
    'train_dataloader.dataset.reading.lidar_sweeps': 4, 'val_dataloader.dataset.reading.lidar_sweeps': 4,
    'test_dataloader.dataset.reading.lidar_sweeps': 4}
_units = (16, 16, 1, 0.25, 0.25, 0.25, 0.25, 0.5, 0.25, 0.25)
rows = [
    dict(name='features as they come', config='world/lidar.py', options={
        **_boxes, 'model.encoders.lidar.units': None}),
    dict(name='in units', config='world/lidar.py', options=_boxes),
    # triangular weights over the pillar's heights, eight sevenths of a metre apart
    dict(name='in units, eight heights', config='world/lidar.py', options={
        **_boxes, 'model.encoders.lidar.height_bins': 8,
        'model.encoders.lidar.units': (*_units, *[0.5] * 8)}),
]
