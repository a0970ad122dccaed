"""A car's sensors and the file that describes them: rig_nuscenes.json shows the format."""
