"""Where the car is over time: nav_msgs Odometry and tf2 TFMessage to tracks of poses, interpolated."""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...core.geometry import invert, make_transform, quaternion_to_matrix
from .values import BadMessage, finite_numbers, stamp_of

NS = 1e-9
DEEPEST_TREE = 64
_FAR_M = 1e7


def pose_from_fields(place: Any, turn: Any, field: str) -> np.ndarray:
    """`(4, 4)` of a position (x, y, z) and an orientation (x, y, z, w).

    Raises:
        BadMessage: names the field.
    """
    xyz = finite_numbers(f'{field}.position', place.x, place.y, place.z)
    wxyz = finite_numbers(f'{field}.orientation', turn.w, turn.x, turn.y, turn.z)
    if max(map(abs, xyz)) > _FAR_M or not 0.9 < np.linalg.norm(wxyz) < 1.1:
        raise BadMessage(
            f'{field}: found the place {xyz} and the turn {wxyz}, expected metres and a unit quaternion')
    return make_transform(quaternion_to_matrix(np.array(wxyz)), np.array(xyz))


def odometry_pose(message: Any) -> tuple[str, str, int, np.ndarray]:
    """A nav_msgs/Odometry: frame it is in, frame it is of, time (ns), `frame_T_child` `(4, 4)`."""
    pose = message.pose.pose
    frame_T_child = pose_from_fields(pose.position, pose.orientation, 'Odometry.pose')
    return (
        plain_frame(message.header.frame_id), plain_frame(message.child_frame_id), stamp_of(message.header),
        frame_T_child)


def plain_frame(name: str) -> str:
    """A frame's name without the slash that ROS 1 puts before it."""
    return name.lstrip('/')


class PoseTrack:
    """Poses `a_T_b` over time, in between by a straight line and the shortest turn.

    Args:
        longest_gap_s: no pose is made between two that lie farther apart.
    """

    def __init__(self, longest_gap_s: float = 1.0) -> None:
        self.longest_gap_s = longest_gap_s
        self._times: list[int] = []
        self._poses: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._times)

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last time, None where there is none."""
        return (self._times[0], self._times[-1]) if self._times else None

    def add(self, time_ns: int, pose_44: np.ndarray) -> None:
        """Add a pose at its place in time; another one for the same time replaces the first."""
        at = len(self._times)
        if self._times and time_ns <= self._times[-1]:
            at = bisect_left(self._times, time_ns)
            if self._times[at] == time_ns:
                self._poses[at] = pose_44
                return
        self._times.insert(at, time_ns)
        self._poses.insert(at, pose_44)

    def forget_before(self, time_ns: int) -> None:
        """Forget all but one of the poses before a time."""
        count = max(0, bisect_left(self._times, time_ns) - 1)
        del self._times[:count], self._poses[:count]

    def clear(self) -> None:
        """Forget all poses."""
        self._times.clear()
        self._poses.clear()

    def at(self, time_ns: int) -> np.ndarray | None:
        """`(4, 4)` at a time; None before the first, behind the last, and in a gap."""
        at = bisect_left(self._times, time_ns)
        if at < len(self._times) and self._times[at] == time_ns:
            return self._poses[at]
        if not 0 < at < len(self._times):
            return None
        before, after = self._times[at - 1], self._times[at]
        if (after - before) * NS > self.longest_gap_s:
            return None
        return between(self._poses[at - 1], self._poses[at], (time_ns - before) / (after - before))


def between(first_44: np.ndarray, second_44: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Poses `(*, 4, 4)` a share (0 to 1, `(*)`) of the way from one to another: line and shortest turn."""
    from scipy.spatial.transform import Rotation

    share = np.asarray(share, dtype=np.float64)
    turn = Rotation.from_matrix(first_44[:3, :3].T @ second_44[:3, :3]).as_rotvec()
    poses = np.zeros((*share.shape, 4, 4))
    turned = Rotation.from_rotvec(np.atleast_2d(share[..., None] * turn)).as_matrix()
    poses[..., :3, :3] = first_44[:3, :3] @ turned.reshape(*share.shape, 3, 3)
    poses[..., :3, 3] = first_44[:3, 3] + share[..., None] * (second_44[:3, 3] - first_44[:3, 3])
    poses[..., 3, 3] = 1
    return poses


class TransformTree:
    """The frames of tf: each has one parent, by a fixed transform or one over time.

    Args:
        longest_gap_s: as in `PoseTrack`.
    """

    def __init__(self, longest_gap_s: float = 1.0) -> None:
        self._gap_s = longest_gap_s
        self._parents: dict[str, str] = {}
        self._fixed: dict[str, np.ndarray] = {}
        self._moving: dict[str, PoseTrack] = {}

    @property
    def frames(self) -> list[str]:
        """All frames by name."""
        return sorted({*self._parents, *self._parents.values()})

    def add(self, message: Any, fixed: bool) -> None:
        """Take the transforms of a tf2_msgs/TFMessage; `fixed` for those of /tf_static.

        Raises:
            BadMessage: a transform that is none, or frames that would make a circle.
        """
        for entry in message.transforms:
            move = entry.transform
            pose = pose_from_fields(move.translation, move.rotation, 'TFMessage.transforms')
            self.add_pose(
                plain_frame(entry.header.frame_id), plain_frame(entry.child_frame_id),
                None if fixed else stamp_of(entry.header), pose)

    def add_pose(self, parent: str, child: str, time_ns: int | None, parent_T_child: np.ndarray) -> None:
        """Add one transform; without a time it holds always."""
        if parent == child or not parent or not child:
            raise BadMessage(f'TFMessage: found a transform from {child!r:.60} to {parent!r:.60}')
        if self._parents.get(child, parent) != parent:
            # poses in another frame cannot be put together with those before
            self._fixed.pop(child, None)
            self._moving.pop(child, None)
        if child in self._up(parent):
            raise BadMessage(f'TFMessage: {child!r:.60} hangs on {parent!r:.60}, which hangs on it: a circle')

        self._parents[child] = parent
        if time_ns is None:
            self._fixed[child] = parent_T_child
        else:
            self._moving.setdefault(child, PoseTrack(self._gap_s)).add(time_ns, parent_T_child)

    def forget_before(self, time_ns: int) -> None:
        """Forget moving transforms of long before."""
        for track in self._moving.values():
            track.forget_before(time_ns)

    def forget_moving(self) -> None:
        """Forget all moving transforms."""
        for track in self._moving.values():
            track.clear()

    def _up(self, frame: str) -> list[str]:
        """The frame and those above it."""
        frames = [frame]
        while frames[-1] in self._parents:
            frames.append(self._parents[frames[-1]])
            if len(frames) > DEEPEST_TREE:
                raise BadMessage(f'TFMessage: the frames above {frame!r:.60} go in a circle: {frames[:6]}')
        return frames

    def connects(self, first: str, second: str) -> bool:
        """Whether some frame lies above both."""
        return bool(set(self._up(first)) & set(self._up(second)))

    def at(self, a: str, b: str, time_ns: int | None) -> np.ndarray | None:
        """`a_T_b` `(4, 4)` at a time; None where they are not connected, or not at that time.

        Args:
            a: a frame.
            b: another one.
            time_ns: None uses fixed transforms alone.
        """
        above_b = self._up(b)
        shared = next((frame for frame in self._up(a) if frame in above_b), None)
        if shared is None:
            return None
        shared_T_a, shared_T_b = (self._from_above(frame, shared, time_ns) for frame in (a, b))
        return None if shared_T_a is None or shared_T_b is None else invert(shared_T_a) @ shared_T_b

    def _from_above(self, frame: str, top: str, time_ns: int | None) -> np.ndarray | None:
        """`top_T_frame` along the parents."""
        pose = np.eye(4)
        while frame != top:
            step = self._fixed.get(frame)
            if step is None and time_ns is not None and frame in self._moving:
                step = self._moving[frame].at(time_ns)
            if step is None:
                return None
            pose, frame = step @ pose, self._parents[frame]
        return pose


def compensated(
    points_P3: np.ndarray,
    times_ns_P: np.ndarray,
    at_T_then: Iterable[tuple[int, np.ndarray]],
) -> np.ndarray:
    """Points as if all had been measured at one moment.

    Args:
        points_P3: in the sensor's frame, each at its own moment.
        times_ns_P: those moments, int64.
        at_T_then: (moment, `(4, 4)` from the sensor then to the sensor at the one moment), rising.

    Returns:
        float32 `(P, 3)`; moments outside those given take the nearest.
    """
    knots = list(at_T_then)
    times = np.array([time for time, _ in knots], dtype=np.int64)
    moved = np.empty_like(points_P3, dtype=np.float32)

    # pieces between two knots, each of its points turned by its own share
    piece = np.clip(np.searchsorted(times, times_ns_P, side='right') - 1, 0, max(len(knots) - 2, 0))
    for index in np.unique(piece):
        chosen = piece == index
        first, last = knots[index], knots[min(index + 1, len(knots) - 1)]
        share = (times_ns_P[chosen] - first[0]) / max(1, last[0] - first[0])
        poses = between(first[1], last[1], np.clip(share, 0.0, 1.0))
        turned = np.einsum('pij,pj->pi', poses[:, :3, :3], points_P3[chosen])
        moved[chosen] = turned + poses[:, :3, 3]
    return moved
