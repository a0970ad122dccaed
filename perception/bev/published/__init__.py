"""Encoders in the form that published weights have; `tools/import_weights.py` brings those."""
from . import centerpoint, voxelnet

__all__ = ['centerpoint', 'voxelnet']
