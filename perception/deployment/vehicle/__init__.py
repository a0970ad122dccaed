"""The loop that runs in a vehicle."""
