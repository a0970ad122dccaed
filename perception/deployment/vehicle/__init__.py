"""The loop that runs in a vehicle: measurements in, predictions out, whatever a sensor does."""
