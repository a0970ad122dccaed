"""Map expansion to layers and lane lines."""
