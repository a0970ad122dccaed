"""Frames with labels of some tasks only: what lacks, what a teacher adds, fair sampling of tasks."""
