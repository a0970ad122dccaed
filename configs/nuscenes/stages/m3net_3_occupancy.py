"""M3Net's third training: three tasks, 15 epochs from `m3net_2_map.py`."""
_base_ = ['../m3net_transformer.py']
start_weights = dict(
    file='work_dirs/nuscenes/stages/m3net_2_map/epoch_12.pth',
    new=['bridge.*.occupancy.', 'heads.occupancy.'])
