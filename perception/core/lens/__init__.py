"""What a lens does to a picture: Brown-Conrady distortion and fisheyes (Kannala-Brandt) beside the pinhole.

A pixel is `K @ plane`, where the lens says which point of the image plane a ray comes to: (x/z, y/z) through
a pinhole. K holds every change of the picture (resize, crop, flip, rotation); the distortion never changes.

`projection` (not imported here: `core.contracts` needs this room, geometry needs `core.contracts`) projects
points and looks back along pixels; `loops` has one ray for compiled loops.
"""
from __future__ import annotations

from .distortion import BROWN_CONRADY, KANNALA_BRANDT, MODELS_OF_LENSES, Distortion
from .rows import LENS_ROW, PINHOLE_ROW, batch_rows, lens_rows

__all__ = [
    'BROWN_CONRADY', 'Distortion', 'KANNALA_BRANDT', 'LENS_ROW', 'MODELS_OF_LENSES', 'PINHOLE_ROW',
    'batch_rows', 'lens_rows']
