"""Verbs that look at the machine, make data and prepare it."""
