"""The rows of the comparison of systems (tools/compare_systems.py), each a configuration of this folder's parent.

Data, precision, optimiser and heads are those of `recipe` in every row; a row adds what it changes against `base`.
"""
recipe = 'demo.py'
base = 'world_camera_lidar.py'
rows = [
    dict(name='concat', config='world_camera_lidar.py'),
    dict(name='MAFI', config='world_mafi.py'),
    dict(name='meta-BEV', config='world_metabev.py'),
    dict(name='meta-BEV, routed experts', config='world_metabev_moe_routed.py'),
    dict(name='meta-BEV, hard experts', config='world_metabev_moe_hard.py'),
    dict(name='meta-BEV, switched', config='world_metabev_switched.py', start='meta-BEV'),  # as published: a second training
    dict(name='M3Net Transformer', config='world_m3net_transformer.py'),
    dict(name='M3Net Mamba', config='world_m3net_mamba.py'),
    dict(name='bridge off', config='world_ctab_off.py'),
    dict(name='bridge one way', config='world_ctab_one_way.py'),
    dict(name='bridge both ways', config='world_ctab_both.py'),
    dict(name='CoP', config='world_cop.py'),
    dict(name='boxes alone', config='world_detection.py'),
    dict(name='map alone', config='world_map_segmentation.py'),
    dict(name='occupancy alone', config='world_occupancy.py'),
    dict(name='lanes alone', config='world_lanes.py'),
    dict(name='cameras alone', config='world_camera.py'),
    dict(name='LiDAR alone', config='world_lidar.py'),
    dict(name='with radar', config='world_radar_camera_lidar.py'),
]
