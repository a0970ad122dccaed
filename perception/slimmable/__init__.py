"""A model whose widths are chosen when it runs: layers that run with their first channels, and the model."""
from .model import SlimmablePerception, SlimOptions

__all__ = ['SlimOptions', 'SlimmablePerception']
