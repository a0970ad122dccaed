"""Verbs that make weights of weights."""
