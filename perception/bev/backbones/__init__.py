"""Images -> feature maps: backbones, and necks that join their maps. Importing this room registers them."""
from . import fpn, lss_fpn, resnet, swin

__all__ = ['fpn', 'lss_fpn', 'resnet', 'swin']
