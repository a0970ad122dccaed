"""Recordings of a car (ROS bags, MCAP): read within bounds, messages to arrays, drives in nuScenes format."""
