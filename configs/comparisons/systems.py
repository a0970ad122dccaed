"""The rows of the comparison of systems (`tools/compare_systems.py`).

Each is a configuration of this folder's parent. Data, precision, optimiser and heads are those of `recipe` in
every row; a row adds what it changes against `base`.
"""
recipe = 'demo.py'
base = 'world/camera_lidar.py'
rows = [
    dict(name='concat', config='world/camera_lidar.py'),
    dict(name='MAFI', config='world/mafi.py'),
    dict(name='meta-BEV', config='world/metabev.py'),
    dict(name='meta-BEV, routed experts', config='world/metabev_moe_routed.py'),
    dict(name='meta-BEV, hard experts', config='world/metabev_moe_hard.py'),
    # as published: a second training
    dict(name='meta-BEV, switched', config='world/metabev_switched.py', start='meta-BEV'),
    dict(name='M3Net Transformer', config='world/m3net_transformer.py'),
    dict(name='M3Net Mamba', config='world/m3net_mamba.py'),
    dict(name='bridge off', config='ablations/ctab_off.py'),
    dict(name='bridge one way', config='ablations/ctab_one_way.py'),
    dict(name='bridge both ways', config='world/ctab_both.py'),
    dict(name='CoP', config='world/cop.py'),
    dict(name='boxes alone', config='ablations/detection.py'),
    dict(name='map alone', config='ablations/map_segmentation.py'),
    dict(name='occupancy alone', config='ablations/occupancy.py'),
    dict(name='lanes alone', config='ablations/lanes.py'),
    dict(name='cameras alone', config='world/camera.py'),
    dict(name='LiDAR alone', config='world/lidar.py'),
    dict(name='with radar', config='world/radar_camera_lidar.py'),
]
