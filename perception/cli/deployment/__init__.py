"""Verbs that export a model and measure it in engines."""
