"""Shapes of vehicles, people and small objects as triangle meshes."""
