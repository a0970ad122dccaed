"""ROS messages to our arrays and back, each by a pure function that believes nothing unchecked."""
