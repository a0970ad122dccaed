"""One sensor in, one bird's-eye-view map out. Importing this room registers its modules."""
from . import backbones, camera, depth, lidar, published, radar, sparse_lidar

__all__ = ['backbones', 'camera', 'depth', 'lidar', 'published', 'radar', 'sparse_lidar']
