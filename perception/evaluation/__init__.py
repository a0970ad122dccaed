"""Judging: official figures of all four tasks, exactly and fast, on stored results or inside mmengine's
loops."""
from .detection.file import DetectionResults, read_detection_results
from .detection.metric import DetectionScores, judge_detection
from .detection.truth import GroundTruth
from .errors import ResultError
from .judge import Judge, Summary, Verdict
from .metrics import DetectionMetric, LaneMetric, MapSegmentationMetric, MultiTaskMetric, OccupancyMetric
from .reports.table import format_table
from .storage.results import ResultStore

__all__ = [
    'DetectionMetric', 'DetectionResults', 'DetectionScores', 'GroundTruth', 'Judge', 'LaneMetric',
    'MapSegmentationMetric', 'MultiTaskMetric', 'OccupancyMetric', 'ResultError', 'ResultStore', 'Summary',
    'Verdict', 'format_table', 'judge_detection', 'read_detection_results']
