r"""The longest recipe, third training: velocities are known, so boxes and headings count more.

    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/long/3_boxes.py --launcher pytorch

It goes on from `2_drives.py`, along whole drives. A sensor that is lost is lost for a whole drive, as in a
car, so that the memory is full of what it leaves.
"""
_base_ = ['2_drives.py']
_epochs = 2
start_weights = dict(_delete_=True, file='work_dirs/world/long/2_drives/iter_1200.pth')
# of x, y, z, sizes, sine and cosine, velocity
_code = (1, 1, 1, 1, 1, 1, 2, 2, 0.2, 0.2)
model = dict(heads=dict(detection=dict(losses=dict(code=_code, moving=2.0))))
train_dataloader = dict(dataset=dict(pipeline=dict(sensors=dict(draw_by='drive'))))
train_cfg = dict(max_epochs=_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, eta_min_ratio=1e-2, convert_to_iter_based=True
    ),
]
