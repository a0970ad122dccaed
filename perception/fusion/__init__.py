"""Several bird's-eye-view maps in, one out. Importing this room registers its modules."""
from . import concat, mafi, trunk

__all__ = ['concat', 'mafi', 'trunk']
