"""Cameras, LiDAR and radars in; boxes, map, occupancy and lanes in bird's-eye view out, in one forward."""
from pathlib import Path

from .core.caches import choose_numba_cache, import_yapf

__version__ = '0.1.0'
__all__ = ['load_model']

# before any room compiles a loop
choose_numba_cache(Path(__file__).parent)
# before any room imports mmengine
import_yapf()


def __getattr__(name: str):
    """Import `load_model` on first use, so that light rooms do not pull the model in."""
    if name == 'load_model':
        from .api import load_model
        return load_model
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
