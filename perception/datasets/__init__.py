"""Files to samples and annotations; transforms, collation and corruptions.

Importing this room registers its classes.
"""
from . import corruptions
from .reading import collate, dataset, sampler, wrappers
from .transforms import bev, image, sensor

__all__ = ['bev', 'collate', 'corruptions', 'dataset', 'image', 'sampler', 'sensor', 'wrappers']
