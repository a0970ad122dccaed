"""OpenMMLab's modules in our configurations and ours in theirs: adapters where the calls differ.

Ours take one map and built parts; mmdet3d's backbones and necks return lists of maps and build their parts
themselves. OpenMMLab is imported inside functions only (extra [mm]); docs/openmmlab.md shows both directions.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from .core.config import SCOPE
from .core.contracts import NUSCENES_CLASSES, Boxes3D, check_same_classes
from .core.protocols import DETECTION_CLASSES
from .registry import MODELS


@MODELS.register_module()
class BackboneNeckTrunk(nn.Module):
    """A trunk of a backbone and a neck that return lists of maps, as `mmdet3d.SECOND` and `SECONDFPN` do.

    Args:
        backbone: `(B, C, Y, X)` -> maps.
        out_channels: of the result.
        neck: maps -> maps; None takes the backbone's maps.
        level: which of the last maps is the result.
    """

    def __init__(
        self, backbone: nn.Module, out_channels: int, neck: nn.Module | None = None, level: int = 0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.out_channels = out_channels
        self.level = level

    def forward(self, bev_BCYX: Tensor) -> Tensor:
        """`(B, in_channels, Y, X)` -> `(B, out_channels, Y, X)`, the same grid.

        Raises:
            ValueError: the chosen map has another width or another grid.
        """
        maps = self.backbone(bev_BCYX)
        if self.neck is not None:
            maps = self.neck(maps)
        result = maps if isinstance(maps, Tensor) else maps[self.level]

        expected = (self.out_channels, *bev_BCYX.shape[-2:])
        if tuple(result.shape[1:]) != expected:
            raise ValueError(
                f'BackboneNeckTrunk: expected a map (channels, Y, X) of {expected} at level {self.level}, '
                f'found {tuple(result.shape[1:])}: see out_channels and the strides of backbone and neck'
            )
        return result


class ListOutput(nn.Module):
    """One of our modules where OpenMMLab puts a neck: it takes the first map and returns a list of one.

    Args:
        module: one map -> one map.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, maps: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Maps -> `[module(first map)]`."""
        return [self.module(maps if isinstance(maps, Tensor) else maps[0])]


@MODELS.register_module(name='Build')
def build_ours(module: Mapping[str, Any], as_list: bool = False) -> nn.Module:
    """Build one of our modules in a configuration of OpenMMLab.

        dict(type='perception.Build', module=dict(type='LidarEncoder', grid=dict(...), ...))

    Their registries hand nested dictionaries to constructors as they are and look bare names up in their own
    scope; this builds `module` and its parts by our rules and in our scope. Modules that take plain numbers
    alone do without: `perception.Trunk`.

    Args:
        module: what to build.
        as_list: return a list of one map, as their necks do.
    """
    with DefaultScope.overwrite_default_scope(SCOPE):
        built = MODELS.build(module)
    return ListOutput(built) if as_list else built


def to_mmdet3d(boxes: Boxes3D, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> dict[str, Any]:
    """Detections in ego -> mmdet3d's `pred_instances_3d` in the LiDAR's frame.

    Args:
        boxes: in ego.
        global_T_ego: pose of the car.
        ego_T_lidar: place of the LiDAR.

    Returns:
        What mmdet3d's NuScenesMetric reads:
        `bboxes_3d` (LiDARInstance3DBoxes with velocity), `scores_3d`, `labels_3d` into mmdet3d's class order.

    Raises:
        ModuleNotFoundError: mmdet3d is not installed.
        ValueError: the boxes are of other classes than nuScenes' ten.
    """
    import torch
    from mmdet3d.structures import LiDARInstance3DBoxes

    from .datasets.exchange.conventions import MMDET3D_CLASSES, ego_boxes_to_lidar

    check_same_classes(boxes.classes, NUSCENES_CLASSES, ('boxes', "mmdet3d's NuScenesMetric"))
    rows = ego_boxes_to_lidar(
        np.asarray(boxes.boxes_M9, dtype=np.float64).reshape(-1, 9), global_T_ego, ego_T_lidar
    )
    label_of = np.array([MMDET3D_CLASSES.index(name) for name in DETECTION_CLASSES])
    labels = label_of[np.asarray(boxes.labels_M, dtype=np.int64)]

    # our boxes are given by their centre, theirs by default by the middle of their bottom
    bboxes_3d = LiDARInstance3DBoxes(
        torch.as_tensor(rows, dtype=torch.float32), box_dim=9, origin=(0.5, 0.5, 0.5)
    )
    return {
        'bboxes_3d': bboxes_3d,
        'scores_3d': torch.as_tensor(np.asarray(boxes.scores_M, dtype=np.float32)),
        'labels_3d': torch.as_tensor(labels),
    }
