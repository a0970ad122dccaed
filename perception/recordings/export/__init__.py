"""A scene in nuScenes format as a ROS 2 bag, so that the whole path can be tried without a car."""
