"""Several bird's-eye-view maps in, one out. Importing this room registers its modules."""
from . import concat, cop, experts, mafi, memory, meta_bev, trunk

__all__ = ['concat', 'cop', 'experts', 'mafi', 'memory', 'meta_bev', 'trunk']
