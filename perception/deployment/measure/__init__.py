"""Comparing, scoring and timing engines."""
