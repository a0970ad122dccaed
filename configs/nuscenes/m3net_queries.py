"""M3Net on nuScenes with its own heads: boxes, map and occupancy read queries (arXiv 2503.18100).

As `m3net_transformer.py`, but nothing is written back to the map for a dense head. Published (its released
configuration) and taken over: boxes from 200 queries by two layers for each number, matched with the true
ones by class 0.15, centre 0.25 and overlap 0.25, losses 2 (class) and 2 (box) beside 6 for the first heatmap,
all divided by 6 here; scores times those of the first heatmap, and no suppression; map masks as products of 5
x 6 queries with the map; two layers of attention in space with 8 heads, 4 points and feed-forward 1024 among
coarse voxels, queries in those that are occupied, one learned vector in all others, three layers to logits.
Different: which voxels are occupied is predicted from the fused map (there: where the LiDAR has points) and
the likeliest 3600 have a query, in voxels of 0.8 x 0.8 x 1.6 m (there 0.6 x 0.6 x 1.6 m) on Occ3D's space,
each of which has logits for its own four heights; attributes of boxes; and what `m3net_transformer.py` says
of backbone, voxels and ground-truth sampling.
"""
_base_ = ['m3net_transformer.py']
_weight = 1 / 6
_voxel_queries = dict(
    type='BEVGrid', x_range_m=(-40.0, 40.0), y_range_m=(-40.0, 40.0), cell_m=0.8, z_range_m=(-1.0, 5.4),
    height_cell_m=1.6)
model = dict(
    bridge=dict(
        query_heads={{_base_.tasks}}, voxel_grid=_voxel_queries, queries=dict(voxels=3600),
        losses=dict(first_voxels=_weight)),
    heads=dict(
        detection=dict(
            _delete_=True, type='QueryBoxHead', grid={{_base_._grid}}, in_channels=256, channels=64,
            targets=dict(min_overlap=0.1, min_radius_cells=2),
            losses=dict(classification=2 * _weight, box=2 * _weight, attribute=0.4 * _weight),
            decoding=dict(max_boxes=200, score_threshold=0.0)),
        map_segmentation=dict(
            _delete_=True, type='QueryMapHead', grid={{_base_._grid}}, in_channels=256,
            task_grid={{_base_._map_grid}}, losses=dict(focal=40 * _weight)),
        occupancy=dict(
            _delete_=True, type='QueryOccupancyHead', in_channels=256, voxel_grid=_voxel_queries,
            decoder=dict(layers=2, heads=8, points=4, feedforward=1024), mask='camera',
            losses=dict(
                class_counts={{_base_._class_counts}}, cross_entropy=_weight, lovasz=_weight,
                semantic_affinity=_weight, geometric_affinity=_weight)),
    ),
)
