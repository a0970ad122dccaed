"""Judging: official figures of all four tasks, exactly and fast, on stored results or inside mmengine's loops."""
from .detection import DetectionScores, judge_detection
from .detection_file import DetectionResults, read_detection_results
from .errors import ResultError
from .judge import Judge, Summary, Verdict
from .metrics import DetectionMetric, LaneMetric, MapSegmentationMetric, MultiTaskMetric, OccupancyMetric
from .results import ResultStore
from .table import format_table
from .truth import GroundTruth

__all__ = ['DetectionMetric', 'DetectionResults', 'DetectionScores', 'GroundTruth', 'Judge', 'LaneMetric',
           'MapSegmentationMetric', 'MultiTaskMetric', 'OccupancyMetric', 'ResultError', 'ResultStore', 'Summary', 'Verdict',
           'format_table', 'judge_detection', 'read_detection_results']
