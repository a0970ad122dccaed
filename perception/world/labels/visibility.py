"""How well each object is seen in the images: the pixels that show it against the pixels it would fill alone.

nuScenes' levels: 1 up to 40 %, 2 up to 60 %, 3 up to 80 %, 4 above (fraction of the object visible over all
six images). Shape letters: M objects.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...core.rig.sensors import SensorRig
from ..scene.scene import WorldScene
from ..sensors.camera import CameraFrame, render_camera
from ..sensors.triangles import SceneGeometry, Snapshot, snapshot_of
from .annotations import Sight

__all__ = ['Sight', 'sight_of_objects', 'visibility_levels', 'LEVEL_BOUNDS']

LEVEL_BOUNDS = (0.4, 0.6, 0.8)
_FALLBACK_SIZE_HW = (225, 400)


def visibility_levels(shown_px_M: np.ndarray, alone_px_M: np.ndarray) -> np.ndarray:
    """(M,) levels 1 to 4; an object without a pixel of its own is level 1."""
    visible_M = shown_px_M / np.maximum(alone_px_M, 1)
    return 1 + np.sum(visible_M[:, None] > np.array(LEVEL_BOUNDS), axis=1)


def sight_of_objects(scene: WorldScene | SceneGeometry | Snapshot, t_s: float, rig: SensorRig,
                     frames: Mapping[str, CameraFrame]) -> Sight:
    """Pixels and level of every object of the scene.

    Args:
        scene: the scene.
        t_s: the key frame's time.
        rig: the cameras.
        frames: the key frame's pictures by camera name; a camera without one is drawn small at `t_s`.
    """
    count = len(scene.tracks if isinstance(scene, WorldScene) else scene.scene.tracks)
    shown, alone = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for name, camera in rig.cameras.items():
        frame = frames.get(name)
        if frame is None:
            scene = snapshot_of(scene, t_s)
            frame = render_camera(scene, t_s, camera, _FALLBACK_SIZE_HW, np.random.default_rng(0))
        shown += np.bincount(frame.track_id_HW.ravel() + 1, minlength=count + 1)[1:]
        alone += frame.alone_px_M
    return Sight(shown, visibility_levels(shown, alone))
