"""One sensor in, one bird's-eye-view map out. Importing this room registers its modules."""
from . import camera, depth, fpn, lidar, published, radar, resnet, sparse_lidar

__all__ = ['camera', 'depth', 'fpn', 'lidar', 'published', 'radar', 'resnet', 'sparse_lidar']
