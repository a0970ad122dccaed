"""Latency, parity and scores of engines."""
