"""Four tasks at widths that are chosen after training: encoder and heads at 1, 0.75 or half of it."""
_base_ = ['camera_lidar.py']
model = dict(type='SlimmablePerception', slim=dict(ratios=(0.75, 0.5), encoder=1.0, heads=1.0))
