"""Infos of mmdet3d in both directions; pickles are read without being run."""
