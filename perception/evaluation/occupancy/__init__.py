"""Occupancy: Occ3D's mIoU, geometry IoU, RayIoU."""
