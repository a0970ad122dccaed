"""What was seen before, brought to where the car is now. Importing this room registers its modules."""
from . import variants

__all__ = ['variants']
