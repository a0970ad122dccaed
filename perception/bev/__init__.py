"""Filled in by the files of this room."""
