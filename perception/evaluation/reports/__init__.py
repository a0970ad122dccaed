"""Scores for a reader: tables, breakdowns, scorecards."""
