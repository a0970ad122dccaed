"""Sample + predictions -> pictures, video, report; one file per task draws that task."""
from . import detection, lanes, map_segmentation, occupancy, tracking
from .base import DrawingOptions, TaskLayer
from .layers import Layers, layers_of_output, layers_of_truth
from .output import write_image, write_rerun, write_video
from .pages.report import write_report
from .panel import draw_bev, draw_camera, draw_cameras, draw_frame

__all__ = [
    'DrawingOptions', 'Layers', 'TaskLayer', 'detection', 'draw_bev', 'draw_camera', 'draw_cameras',
    'draw_frame', 'lanes', 'layers_of_output', 'layers_of_truth', 'map_segmentation', 'occupancy',
    'tracking', 'write_image', 'write_report', 'write_rerun', 'write_video']
