"""Writing a root in nuScenes format: table rows, radar files, files that are whole or absent."""
