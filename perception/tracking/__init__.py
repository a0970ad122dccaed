"""Detections over time -> tracks: the same number for the same object in every frame."""
from __future__ import annotations

from .history import TrackHistory
from .live import FrameTracker, TruthTracks
from .options import TrackerOptions
from .tracker import Tracked, Tracker

__all__ = ['FrameTracker', 'TrackHistory', 'Tracked', 'Tracker', 'TrackerOptions', 'TruthTracks']
