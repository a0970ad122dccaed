"""Sample + answers -> pictures, video, report."""
from .output import write_image, write_report, write_rerun, write_video
from .panel import Layers, draw_bev, draw_cameras, draw_frame, layers_of_output, layers_of_truth

__all__ = [
    'Layers', 'draw_bev', 'draw_cameras', 'draw_frame', 'layers_of_output', 'layers_of_truth', 'write_image',
    'write_report', 'write_rerun', 'write_video']
