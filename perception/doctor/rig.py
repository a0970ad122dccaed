"""What a model that was trained with one rig makes of another: what differs, and what to do."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.contracts import CameraRig, Frame, Sample
from ..core.rig.coverage import RINGS_M, ground_coverage, view_angles_rad
from ..core.rig.sensors import FORWARD_T_OPTICAL, CameraSensor, LidarSensor, SensorRig
from ..datasets.transforms.image import ResizeCropFlipRotate, sample_rng
from ..datasets.transforms.view import PreparedView
from .finding import Finding

HEIGHT_M = (0.3, 1.0)
"""Off the trained heights: up to here ok, up to there a model sees worse, beyond it is another view."""
PITCH_DEG = (3.0, 10.0)
ROLL_DEG = (2.0, 6.0)
LOST_DEG = (3.0, 10.0)
BLACK_SHARE = (0.05, 0.3)
UNSEEN_SHARE = (0.05, 0.25)
RETRAIN = 'train with this rig too: tools/make_world.py --rig, or own recordings'


@dataclass(frozen=True)
class Trained:
    """What the model was trained with.

    Attributes:
        rig: the car.
        image: how its configuration prepares images; None where it leaves them as they are.
        cameras: channels that its configuration reads.
    """

    rig: SensorRig
    image: ResizeCropFlipRotate | None
    cameras: Sequence[str]


def check_rig(rig: SensorRig, trained: Trained) -> list[Finding]:
    """All findings about a rig."""
    views = prepared_views(rig, trained.image) if trained.image is not None else {}
    findings = [_check_names(rig, trained)] if rig.cameras else [
        Finding('cameras', 'all', 'absent', 'the rig has none', 'a model with cameras marks them absent')]
    for camera in rig.cameras.values():
        findings += check_camera(camera, trained, views.get(camera.name))

    findings += check_surround(rig, trained.rig)
    findings += check_lidar(rig, trained.rig)
    radars, known = list(rig.radars), list(trained.rig.radars)
    state = 'ok' if set(known) <= set(radars) else 'partly' if radars else 'absent'
    step = '' if state == 'ok' else 'a model with radars has a mask for those that are not there'
    findings.append(Finding('radars', 'all', state, f'{len(radars)}; trained: {len(known)}', step))
    return findings


def prepared_views(rig: SensorRig, image: ResizeCropFlipRotate) -> dict[str, PreparedView]:
    """What the configuration makes of pictures of this rig's sizes."""
    # an image of three bytes a pixel for each camera at once would be large: one after the other
    views: dict[str, PreparedView] = {}
    for camera in rig.cameras.values():
        one = CameraRig(
            (camera.name,), np.zeros((1, *camera.size_hw, 3), np.uint8), camera.K_33[None],
            camera.ego_T_cam[None], np.ones(1, bool), np.zeros(1), distortions=(camera.distortion,))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what they say stands in the views
            image(Sample(Frame('rig', 0, np.eye(4)), one), None, sample_rng(0, 0, 0))
        views[camera.name] = image.views[camera.name]
    return views


def _check_names(rig: SensorRig, trained: Trained) -> Finding:
    absent = [name for name in trained.cameras if name not in rig.cameras]
    more = [name for name in rig.cameras if name not in trained.cameras]
    detail = f'{len(rig.cameras)}; the configuration reads {len(trained.cameras)}'
    parts = [f'not in the rig: {", ".join(absent)}'] if absent else []
    parts += [f'not read: {", ".join(more)}'] if more else []
    state = 'ok' if not parts else 'partly' if len(absent) < len(trained.cameras) else 'broken'
    step = '' if state == 'ok' else (
        'name the cameras as the configuration does, or set reading.cameras and camera_names '
        '(docs/configurations.md); absent ones are masked')
    return Finding('cameras', 'names', state, '; '.join([detail, *parts]), step)


# -------------------------------------------------------------------- one camera

def check_camera(camera: CameraSensor, trained: Trained, view: PreparedView | None) -> list[Finding]:
    """Height, direction and picture of one camera."""
    area = f'camera {camera.name}'
    cameras = list(trained.rig.cameras.values())
    heights = [one.ego_T_cam[2, 3] for one in cameras] or [1.5]
    height_m = float(camera.ego_T_cam[2, 3])
    off_m = max(min(heights) - height_m, height_m - max(heights), 0.0)
    span = f'{min(heights):.2f} to {max(heights):.2f} m'
    findings = [_graded(
        area, 'height', off_m, HEIGHT_M, f'{height_m:.2f} m; trained: {span}',
        f'mount it nearer to {span}, or {RETRAIN}')]

    pitch_deg, roll_deg = _pitch_roll_deg(camera)
    pitches = [_pitch_roll_deg(one)[0] for one in cameras] or [0.0]
    off_deg = max(min(pitches) - pitch_deg, pitch_deg - max(pitches), 0.0)
    findings.append(_graded(
        area, 'pitch', off_deg, PITCH_DEG,
        f'{pitch_deg:.1f} degrees down; trained: {min(pitches):.1f} to {max(pitches):.1f}', RETRAIN))
    findings.append(_graded(
        area, 'roll', abs(roll_deg), ROLL_DEG, f'{roll_deg:.1f} degrees; trained: 0',
        f'turn the picture upright, or {RETRAIN}'))
    return findings + ([] if view is None else _check_picture(area, view))


def _check_picture(area: str, view: PreparedView) -> list[Finding]:
    height, width = view.source_hw
    way = 'as in training, by width' if view.as_trained else 'unlike training: by focal length and horizon'
    image = f'{width} x {height} pixels, {way}; resized by {view.factor:.3f}'
    focal = f'{view.focal_px:.0f} pixels per radian when resized'
    ratio = 1.0
    if view.trained_focal_px is not None:
        ratio = view.focal_px / view.trained_focal_px
        focal += f'; trained: {view.trained_focal_px:.0f}'
    findings = [
        Finding(area, 'image', 'ok', image),
        _graded(area, 'focal length', abs(math.log(ratio)), (math.log(1.101), math.log(1.5)), focal,
                'give the configuration a view (docs/data.md), which resizes by focal length')]

    if view.horizon_row is None:
        findings.append(Finding(area, 'horizon', 'broken', 'it sees none: it looks up or down', RETRAIN))
    else:
        trained = view.trained_horizon_row
        place = '' if trained is None else f'; trained: {trained:.0f}'
        off = abs(view.horizon_row - (view.size_hw[0] * 0.21 if trained is None else trained))
        findings.append(_graded(
            area, 'horizon', off / view.size_hw[0], (0.121, 0.4),
            f'row {view.horizon_row:.0f} of {view.size_hw[0]}{place}',
            'give the configuration a view (docs/data.md), which crops around the horizon'))
    return [*findings, _check_loss(area, view)]


def _check_loss(area: str, view: PreparedView) -> Finding:
    """What lies outside the prepared picture, and what of it stays black."""
    black = view.black_px
    height, width = view.size_hw
    filled = (height - black['top'] - black['bottom']) * (width - black['left'] - black['right'])
    share = 1 - max(0, filled) / (height * width)
    lost = ', '.join(f'{value:.1f} {side}' for side, value in view.lost_deg.items() if value >= 0.05)

    # above the horizon is sky: training loses it too
    below_deg = max(view.lost_deg[side] for side in ('bottom', 'left', 'right'))
    detail = f'{lost or "nothing"} (degrees); {share:.0%} of the prepared picture is black'
    step = "view.borders='black' keeps everything, smaller (docs/data.md); " + RETRAIN
    worse = max(_grade(below_deg, LOST_DEG), _grade(share, BLACK_SHARE))
    return Finding(area, 'lost', _STATES[worse], detail, step if worse else '')


def _pitch_roll_deg(camera: CameraSensor) -> tuple[float, float]:
    """How much a camera looks down, and how much its left side tips up, degrees."""
    turned = camera.ego_T_cam[:3, :3] @ FORWARD_T_OPTICAL.T
    pitch = math.atan2(-turned[2, 0], math.hypot(turned[0, 0], turned[1, 0]))
    roll = math.atan2(turned[2, 1], turned[2, 2])
    return round(math.degrees(pitch), 6) + 0.0, round(math.degrees(roll), 6) + 0.0


# -------------------------------------------------------------------- all around

def check_surround(rig: SensorRig, trained: SensorRig) -> list[Finding]:
    """Overlap of neighbouring cameras, and the ground that none of them sees, ring by ring."""
    findings = []
    for first, second, overlap_deg in neighbours(rig):
        state = 'ok' if overlap_deg >= 0 else 'partly'
        word = f'{abs(overlap_deg):.0f} degrees {"overlap" if overlap_deg >= 0 else "unseen"}'
        step = '' if state == 'ok' else 'LiDAR and radars alone see objects there; add or turn a camera'
        findings.append(Finding('around', f'{first} | {second}', state, word, step))

    seen, before = ground_coverage(rig), ground_coverage(trained)
    rows = zip(
        RINGS_M[:-1], RINGS_M[1:], seen.unseen(seen.by_camera), before.unseen(before.by_camera),
        seen.unseen(seen.by_camera | seen.by_lidar), strict=True)
    for low_m, high_m, share, trained_share, dark in rows:
        detail = f'{share:.0%} unseen by cameras (trained: {trained_share:.0%}), {dark:.0%} by LiDAR as well'
        findings.append(_graded(
            'ground', f'{low_m:.0f} to {high_m:.0f} m', max(0.0, share - trained_share), UNSEEN_SHARE, detail,
            'expect no map, lanes or boxes from images there; the picture shows where'))
    return findings


def neighbours(rig: SensorRig) -> list[tuple[str, str, float]]:
    """Pairs of cameras side by side, counter-clockwise, and how many degrees both see (below 0: a gap)."""
    spans = []
    for name, camera in rig.cameras.items():
        right, left = view_angles_rad(camera)
        spans.append((((right + left) / 2) % (2 * math.pi), (left - right) / 2, name))
    spans.sort()
    if len(spans) < 2:
        return []

    pairs = []
    for (middle, half, name), (other, other_half, other_name) in zip(
            spans, [*spans[1:], spans[0]], strict=True):
        between = (other - middle) % (2 * math.pi)
        pairs.append((name, other_name, math.degrees(half + other_half - between)))
    return pairs


def check_lidar(rig: SensorRig, trained: SensorRig) -> list[Finding]:
    """Height and beams of the LiDAR against the trained one."""
    if not rig.lidars:
        step = 'a model with a LiDAR has a mask for its absence (configs/world/robust.py trains for that)'
        return [Finding('lidar', 'all', 'absent', 'the rig has none', step)]

    lidar, known = rig.lidar, trained.lidars and trained.lidar
    if not known:
        return [Finding('lidar', lidar.name, 'ok', 'the trained rig has none: not compared')]
    heights = [one.ego_T_lidar[2, 3] for one in (lidar, known)]
    findings = [_graded(
        'lidar', 'height', abs(heights[0] - heights[1]), HEIGHT_M,
        f'{heights[0]:.2f} m; trained: {heights[1]:.2f} m', RETRAIN)]

    ratio = _beams_per_degree(lidar) / _beams_per_degree(known)
    findings.append(_graded(
        'lidar', 'beams', abs(math.log2(ratio)), (0.4, 1.6),
        f'{_beams(lidar)}; trained: {_beams(known)}', f'merge sweeps, or leave beams out; {RETRAIN}'))
    return findings


def _beams(lidar: LidarSensor) -> str:
    low, high = np.rad2deg(lidar.elevations_rad[[0, -1]])
    return f'{len(lidar.elevations_rad)} from {low:.1f} to {high:.1f} degrees'


def _beams_per_degree(lidar: LidarSensor) -> float:
    low, high = np.rad2deg(lidar.elevations_rad[[0, -1]])
    return (len(lidar.elevations_rad) - 1) / float(high - low)


# -------------------------------------------------------------------- grades

_STATES = ('ok', 'partly', 'broken')


def _grade(value: float, limits: tuple[float, float]) -> int:
    return int(value > limits[0]) + int(value > limits[1])


def _graded(
    area: str, name: str, value: float, limits: tuple[float, float], detail: str, step: str
) -> Finding:
    """State ok up to the first limit, partly up to the second, broken beyond."""
    state = _STATES[_grade(value, limits)]
    return Finding(area, name, state, detail, '' if state == 'ok' else step)


def trained_with(rig: SensorRig, dataset: dict[str, Any] | None) -> Trained:
    """What a configuration's test data set says about its pictures; without one, the nuScenes recipe's.

    Raises:
        ValueError: an option of its pipeline is unknown.
    """
    from ..core.config import build_record
    from ..datasets.reading.options import ReadingOptions
    from ..datasets.transforms.image import Compose, resizing_transforms

    if dataset is None:
        return Trained(rig, ResizeCropFlipRotate((256, 704), train=False, view={}), tuple(rig.cameras))
    found = resizing_transforms(Compose(dataset.get('pipeline', ())).transforms)
    reading = build_record(ReadingOptions, dataset.get('reading'), 'dataset.reading')
    return Trained(rig, found[-1] if found else None, reading.cameras)
