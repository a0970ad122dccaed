"""Quantisation whose loss of accuracy is measured."""
