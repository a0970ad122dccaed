"""Frames of one drive in the order of time, for models that remember."""
