"""Meta-BEV with switched modalities in a longer training.

Behind the encoders of `world/robust_camera.py`; cameras alone a little more often than a third.
"""
_base_ = ['metabev_switched.py']
train_dataloader = dict(dataset=dict(pipeline=dict(
    sensors=dict(keep={'camera': 0.4, 'lidar': 0.3, 'camera+lidar': 0.3}))))
model = dict(encoders=dict(camera={{_base_._camera_stride_4}}))
