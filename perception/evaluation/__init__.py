"""Evaluation: official scores of all tasks, exact and fast, on stored results or in mmengine's loops."""
from .base import OfficialFile, ScoreTable, TaskMetric
from .detection.file import DetectionResults, read_detection_results
from .detection.metric import NuScenesDetection
from .detection.protocol import DetectionScores, score_detection
from .detection.truth import GroundTruth
from .errors import ResultError
from .lanes.metric import ChamferLanes
from .map_segmentation.metric import MapIoU
from .metrics import DetectionMetric, LaneMetric, MapSegmentationMetric, MultiTaskMetric, OccupancyMetric
from .occupancy.metric import Occ3DOccupancy
from .reports.table import format_scores
from .storage.results import ResultStore
from .suite import MetricSuite, Report, Summary

__all__ = [
    'ChamferLanes', 'DetectionMetric', 'DetectionResults', 'DetectionScores', 'GroundTruth', 'LaneMetric',
    'MapIoU', 'MapSegmentationMetric', 'MetricSuite', 'MultiTaskMetric', 'NuScenesDetection',
    'Occ3DOccupancy', 'OccupancyMetric', 'OfficialFile', 'Report', 'ResultError', 'ResultStore', 'ScoreTable',
    'Summary', 'TaskMetric', 'format_scores', 'read_detection_results', 'score_detection']
