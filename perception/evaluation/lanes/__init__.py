"""Vector lanes: Chamfer AP."""
