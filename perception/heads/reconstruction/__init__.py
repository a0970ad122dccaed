"""LiDAR points and occupancy of hidden pillars, without labels: pre-training."""
from .head import ReconstructionHead

__all__ = ['ReconstructionHead']
