"""3-D boxes: `CenterHead`."""
from .head import CenterHead

__all__ = ['CenterHead']
