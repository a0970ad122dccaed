"""A city without traffic: roads, layers of the map, ground, buildings, road works."""
