"""What the sensors measure in a scene: cameras, LiDAR, radars, and when."""
