"""MetaBEV's second training: boxes and map with routed experts, 10 epochs from `metabev_1_boxes.py`.

Published: the model of boxes gets the map's head and experts in the place of its feed-forwards, and all of it
learns on.
"""
_base_ = ['../metabev_moe_routed.py']
tasks = ('detection', 'map_segmentation')
start_weights = dict(
    file='work_dirs/nuscenes/stages/metabev_1_boxes/epoch_26.pth',
    new=['fuser.layers.*.ffn.', 'heads.map_segmentation.'])
train_cfg = dict(max_epochs=10)
param_scheduler = dict(type='OneCycle', epochs=10, rising=4)
