"""Encoders in the form that published weights have; `tools/import_weights.py` brings those."""
from . import centerpoint

__all__ = ['centerpoint']
