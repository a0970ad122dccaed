"""What the drawing of a task promises: read a prediction or the labels, then draw itself in every view."""
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .bev import BevCanvas
from .camera import CameraCanvas
from .legend import LegendEntry
from .pages.shapes import Shapes


@dataclass(frozen=True)
class DrawingOptions:
    """What of a prediction or of the labels is drawn.

    Attributes:
        score_threshold: boxes and lanes with a lower score are left out.
        map_threshold: probability from which a cell of the map is painted.
        camera_mask: hides labelled voxels that no camera observes.
    """

    score_threshold: float = 0.3
    map_threshold: float = 0.5
    camera_mask: bool = False


class TaskLayer(ABC):
    """What is drawn of one task in one frame.

    A subclass holds its shapes in ego metres and is registered under the name of its task:
    `@TASK_LAYERS.register_module('detection')`. Nothing else in this room names a task.

    Attributes:
        title: what the layer shows, one or two words for the title of a panel.
        order: layers are drawn from the lowest to the highest; the LiDAR points lie at 0.
        on_bev: whether the layer draws in the view from above.
    """

    title: ClassVar[str]
    order: ClassVar[int] = 30
    on_bev: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def from_prediction(cls, prediction: Any, options: DrawingOptions) -> TaskLayer:
        """The layer of what the task's head decodes for one sample, `TaskOutput.get(task)`."""

    @classmethod
    @abstractmethod
    def from_truth(cls, labels: Any, options: DrawingOptions) -> TaskLayer:
        """The layer of one frame's labels of the task, `Annotations.get(task)`."""

    def legend(self) -> tuple[LegendEntry, ...]:
        """Every colour that the layer uses; it stands under the panels that show the layer."""
        return ()

    def draw_on_camera(self, canvas: CameraCanvas) -> None:  # noqa: B027 optional
        """Draw into one camera's image; nothing by default."""

    def draw_on_bev(self, canvas: BevCanvas) -> None:  # noqa: B027 optional
        """Draw into the view from above; nothing by default."""

    def draw_panel(self) -> np.ndarray | None:
        """A panel of its own beside the view from above, uint8 RGB `(H, W, 3)`; None by default."""
        return None

    def shapes(self) -> Shapes | None:
        """What the interactive page shows of the layer; None by default, which leaves it out."""
        return None

    def log_to_rerun(self, rr: Any, recording: Any) -> None:  # noqa: B027 optional
        """Log the layer of this frame to a rerun recording; nothing by default."""
