"""How fast the metrics are, on made samples."""
