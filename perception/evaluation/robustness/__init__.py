"""Scores under failing sensors and corruptions."""
