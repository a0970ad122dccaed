"""Files to samples and annotations; transforms, collation and corruptions.

Importing this room registers its classes.
"""
from . import corruptions
from .drives import sampler as drive_sampler
from .partial import sampler as partial_sampler
from .paste import transform as paste_objects
from .reading import collate, dataset, sampler, wrappers
from .transforms import bev, hiding, image, sensor

__all__ = [
    'bev', 'collate', 'corruptions', 'dataset', 'drive_sampler', 'hiding', 'image', 'partial_sampler',
    'paste_objects', 'sampler', 'sensor', 'wrappers']
