"""The scene that everything else reads: bodies and ground over time, materials, weather, curves."""
