"""What the annotator knows of a scene: boxes, visibility, occupancy, point classes."""
