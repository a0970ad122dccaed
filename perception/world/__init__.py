"""The synthetic world: invented cities, traffic, sensors and labels written in the nuScenes format."""
