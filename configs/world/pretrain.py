r"""Pre-training without labels on the synthetic world: what the LiDAR would see in hidden pillars.

    python tools/train.py configs/world/pretrain.py
    python tools/train.py configs/world/pretrained.py

70 % of the pillars are hidden, in three of ten samples the whole LiDAR: the cameras alone then reconstruct
its pillars, beside the depth that they always learn. Encoders, fuser and trunk are what `pretrained.py`
starts from. Frames need no annotations. TurboTrain's first stage (Zhou et al. 2025, arXiv 2508.04682) for one
car.
"""
_base_ = ['camera_lidar.py']
model = dict(heads=dict(
    detection=None, map_segmentation=None, occupancy=None, lanes=None,
    reconstruction=dict(type='ReconstructionHead', grid={{_base_._grid}}, in_channels={{_base_._width}})))
train_dataloader = dict(dataset=dict(tasks=(), pipeline=dict(
    hide=dict(type='HidePillars', share=0.7, x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), cell_m=0.8),
    sensors=dict(type='SensorDropout', keep={'camera': 0.3, 'camera+lidar': 0.7}))))
# nothing that a score could be made of
val_cfg = None
val_dataloader = None
val_evaluator = None
find_unused_parameters = True  # the encoder of a sensor that a process's sample lacks gets no gradient
