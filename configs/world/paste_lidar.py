"""LiDAR alone, objects of other frames set into each."""
_base_ = ['paste.py']
model = dict(encoders=dict(camera=None), fuser=dict(in_channels=dict(camera=None)))
_lidar = dict(collate_fn=dict(sensors=('lidar',)), dataset=dict(sensors=('lidar',)))
train_dataloader = _lidar
val_dataloader = _lidar
test_dataloader = _lidar
