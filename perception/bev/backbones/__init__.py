"""Images -> feature maps: backbones, and necks that join their maps. Importing this room registers them."""
from . import fpn, resnet

__all__ = ['fpn', 'resnet']
