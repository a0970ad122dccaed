"""Predictions as ROS 2 messages, and the MCAP file that holds them beside what was measured."""
