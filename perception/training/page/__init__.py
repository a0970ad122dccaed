"""A training on one page: what its logs say, joined over its runs."""
from __future__ import annotations

from .hook import TrainingPageHook
from .html import write_page

__all__ = ['TrainingPageHook', 'write_page']
