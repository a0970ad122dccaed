"""What an annotator would write down about a key frame: boxes with their points, visibility and attribute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..scene.scene import WorldScene
from ..scene.track import Track
from .boxes import count_points_in_boxes

ANNOTATED_WITHIN_M = 80.0


@dataclass(frozen=True)
class Annotation:
    """One annotated object in one key frame.

    Attributes:
        track: the object.
        global_T_box: (4, 4) pose of the box, origin at its centre.
        attribute: attribute name, '' where the category has none.
        visibility: '1' to '4'.
        num_lidar_pts, num_radar_pts: points of the key frame inside the box.
    """

    track: Track
    global_T_box: np.ndarray
    attribute: str
    visibility: str
    num_lidar_pts: int
    num_radar_pts: int


@dataclass(frozen=True)
class Sight:
    """How well each object is seen in the six images of a key frame.

    Attributes:
        pixels_M: (M,) pixels that show the object, by track index.
        level_M: (M,) visibility level 1 to 4, by track index.
    """

    pixels_M: np.ndarray
    level_M: np.ndarray


def annotate(scene: WorldScene, t_s: float, lidar_points_global_P3: np.ndarray,
             radar_points_global_P3: np.ndarray, sight: Sight) -> list[Annotation]:
    """Boxes of all objects near the ego that at least one sensor perceives, in track order.

    Args:
        scene: the scene.
        t_s: the key frame's LiDAR time.
        lidar_points_global_P3: the key frame's scan, global metres.
        radar_points_global_P3: targets of all radars of the key frame, unfiltered, global metres.
        sight: what the images show.
    """
    ego_xyz = scene.ego.pose_at(t_s)[:3, 3]
    poses = [track.matrix_at(t_s) for track in scene.tracks]
    near = [track for track, pose in zip(scene.tracks, poses, strict=True)
            if np.hypot(*(pose[:2, 3] - ego_xyz[:2])) <= ANNOTATED_WITHIN_M]

    # points inside the near boxes, in the order of `near`
    pose_M44 = np.array([poses[track.index] for track in near]).reshape(-1, 4, 4)
    lwh_M3 = np.array([track.size_lwh_m for track in near]).reshape(-1, 3)
    lidar_M = count_points_in_boxes(lidar_points_global_P3, pose_M44, lwh_M3)
    radar_M = count_points_in_boxes(radar_points_global_P3, pose_M44, lwh_M3)

    annotations = []
    for track, lidar, radar in zip(near, lidar_M, radar_M, strict=True):
        if lidar + radar + sight.pixels_M[track.index] > 0:
            level = str(int(sight.level_M[track.index]))
            annotations.append(Annotation(track, poses[track.index], track.attribute_at(t_s), level,
                                          int(lidar), int(radar)))
    return annotations
