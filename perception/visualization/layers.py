"""Prediction or labels -> one layer for each task that they have, in the order they are drawn."""
from __future__ import annotations

from collections.abc import Iterable

from ..core.contracts import Annotations, TaskOutput
from ..registry import TASK_LAYERS
from .base import DrawingOptions, TaskLayer

Layers = tuple[TaskLayer, ...]


def layers_of_output(
    output: TaskOutput, score_threshold: float = 0.3, map_threshold: float = 0.5
) -> Layers:
    """The layers of a prediction, one for each registered task that it has.

    Args:
        output: one sample's prediction.
        score_threshold: boxes and lanes with a lower score are left out.
        map_threshold: probability from which a cell of the map is painted.
    """
    options = DrawingOptions(score_threshold=score_threshold, map_threshold=map_threshold)
    return in_order(
        layer.from_prediction(output.get(task), options)
        for task, layer in TASK_LAYERS.module_dict.items()
        if output.get(task) is not None
    )


def layers_of_truth(annotations: Annotations, camera_mask: bool = False) -> Layers:
    """The layers of the labels, one for each registered task that is annotated.

    Args:
        annotations: the labels of one frame.
        camera_mask: hides voxels that no camera observes.
    """
    options = DrawingOptions(camera_mask=camera_mask)
    return in_order(
        layer.from_truth(annotations.get(task), options)
        for task, layer in TASK_LAYERS.module_dict.items()
        if annotations.get(task) is not None
    )


def in_order(layers: Iterable[TaskLayer]) -> Layers:
    """The layers from the lowest order to the highest."""
    return tuple(sorted(layers, key=lambda layer: layer.order))
