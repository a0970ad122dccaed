"""M3Net's second training: boxes and map with MAFI and its decoder, 12 epochs from `m3net_1_boxes.py`."""
_base_ = ['../m3net_transformer.py']
tasks = ('detection', 'map_segmentation')
start_weights = dict(
    file='work_dirs/nuscenes/stages/m3net_1_boxes/epoch_6.pth',
    new=['fuser.features.', 'fuser.attention.', 'bridge.', 'heads.map_segmentation.'])
model = dict(bridge=dict(tasks=tasks))
train_dataloader = dict(sampler=dict(_delete_=True, type='ClassBalancedSampler'))
train_cfg = dict(max_epochs=12)
param_scheduler = dict(type='OneCycle', epochs=12, rising=5)
