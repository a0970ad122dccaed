"""M3Net with its own heads on the synthetic world, small: boxes, map and occupancy read queries.

After Chen et al. 2025, arXiv 2503.18100; see `configs/nuscenes/m3net_queries.py` for what is published. Here:
the small decoder, voxels of 1.6 m, one layer among them. Lanes have no queries there and keep their head.
"""
_base_ = ['m3net_transformer.py']
_voxel_queries = dict(
    type='BEVGrid', x_range_m=(-40.0, 40.0), y_range_m=(-40.0, 40.0), cell_m=1.6, z_range_m=(-1.0, 5.4),
    height_cell_m=1.6)
model = dict(
    bridge=dict(
        query_heads=('detection', 'map_segmentation', 'occupancy'), voxel_grid=_voxel_queries,
        queries=dict(voxels=1024), losses=dict(first_voxels=1.0)),
    heads=dict(
        detection=dict(
            _delete_=True, type='QueryBoxHead', grid={{_base_._grid}}, in_channels=64, channels=48,
            decoding=dict(max_boxes=200, score_threshold=0.03, moving_mps=0.5)),
        map_segmentation=dict(
            _delete_=True, type='QueryMapHead', grid={{_base_._grid}}, in_channels=64,
            losses=dict(focal=40.0, class_weights=(1, 2, 1, 3, 1, 2))),
        occupancy=dict(
            _delete_=True, type='QueryOccupancyHead', in_channels=64, voxel_grid=_voxel_queries,
            decoder=dict(layers=1, heads=4, points=4, feedforward=128), mask='camera',
            losses=dict(voxels_per_sample=8192))),
)
