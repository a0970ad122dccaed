"""A car that turns, what stands beside its road, and the memories under test."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from perception.core.contracts import Frame
from perception.core.geometry import invert, make_transform, rotation_z
from perception.core.grid import BEVGrid
from perception.fusion.memory.base import BEVMemory
from perception.fusion.memory.streams import Streams
from perception.fusion.memory.variants import GatedMemory, MapMemory, MapQueue

GRID = BEVGrid((-16.0, 16.0), (-16.0, 16.0), 0.5)
CHANNELS = 3
MEMORIES = {
    'map': lambda **options: MapMemory(GRID, CHANNELS, **options),
    'map and motion': lambda **options: MapMemory(GRID, CHANNELS, motion_channels=5, **options),
    'queue': lambda **options: MapQueue(GRID, CHANNELS, slots=3, **options),
    'gated': lambda **options: GatedMemory(GRID, CHANNELS, **options)}


def turning_car(frames: int, speed_mps: float = 4.0, turn_rad_s: float = 0.12) -> list[Frame]:
    """Half a second between frames, on a circle, somewhere in the city."""
    pose, poses = make_transform(rotation_z(0.7)[:3, :3], np.array([640.0, 1210.0, 2.0])), []
    for _ in range(frames):
        poses.append(pose)
        pose = pose @ make_transform(
            rotation_z(turn_rad_s / 2)[:3, :3], np.array([speed_mps / 2, 0, 0]))
    return [
        Frame(f'f{i}', 10**9 + i * 500_000_000, pose, scene='drive') for i, pose in enumerate(poses)]


def moved(frame: Frame, new_T_old: np.ndarray) -> Frame:
    """A frame as an augmentation leaves it."""
    return replace(frame, global_T_ego=frame.global_T_ego @ invert(new_T_old))


def spot(frame: Frame, place_m: np.ndarray, width_m: float = 1.0) -> Tensor:
    """A map `(1, C, Y, X)` with one soft spot where a thing at a global place lies."""
    ego = invert(frame.global_T_ego) @ np.array([*place_m, 1.0])
    scale = math.sqrt(abs(np.linalg.det(frame.global_T_ego[:2, :2])))
    away = np.linalg.norm(GRID.centres_m() - ego[:2], axis=-1) * scale
    value = torch.from_numpy(np.exp(-(away / width_m) ** 2)).float()
    return value.expand(1, CHANNELS, -1, -1).contiguous()


def step(memory: BEVMemory, streams: Streams, frame: Frame, new_BCYX: Tensor) -> Tensor:
    """One frame of a drive through a memory."""
    inputs = memory.prepare(streams.recall([frame]), [frame], 'cpu')
    joined, kept, _ = memory(new_BCYX, **inputs)
    streams.keep([frame], kept.detach())
    return joined


def woken(memory: BEVMemory) -> BEVMemory:
    """A memory as one that has learned, with seeded weights."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return memory.eval()
