"""Scenes to a data set in nuScenes format, by several processes, resumable."""
