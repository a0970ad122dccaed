"""Several bird's-eye-view maps in, one out. Importing this room registers its modules."""
from . import concat, trunk

__all__ = ['concat', 'trunk']
