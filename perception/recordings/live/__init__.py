"""A recording, or a car on the road, heard as it comes: what a running model reads of it."""
