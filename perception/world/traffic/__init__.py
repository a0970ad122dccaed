"""Who moves through a city: drivers, cyclists, pedestrians, parked cars, and the ego car."""
