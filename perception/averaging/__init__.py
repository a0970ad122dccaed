"""Several forwards of a batch, mirrored or of several weights, averaged to one prediction."""
from .model import AveragedModel
from .views import MIRRORED

__all__ = ['MIRRORED', 'AveragedModel']
