"""Augmentation: image and camera together, everything in bird's-eye view together."""
