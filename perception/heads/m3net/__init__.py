"""The shared decoder with task queries: `M3NetBridge`."""
from .bridge import M3NetBridge

__all__ = ['M3NetBridge']
