"""Verbs that test, score and draw."""
