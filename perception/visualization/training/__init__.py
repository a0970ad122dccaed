"""Pictures while a training runs."""
from __future__ import annotations

from .hook import ValidationPictureHook

__all__ = ['ValidationPictureHook']
