"""Channels that a network can do without, taken out: which go together, which matter least, how many."""
