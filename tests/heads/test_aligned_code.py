"""A code read along its box's axes: where it reads, that it turns with the world, how it begins."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from perception.heads.detection.aligned import AlignedCode
from perception.heads.detection.targets import BOX_CODE, CODE_VELOCITY, HEADING

CELL_M = 0.8


@pytest.fixture
def aligned() -> AlignedCode:
    torch.manual_seed(0)
    return AlignedCode(6, 4, CELL_M, velocity_unit=8.0, hidden=16).eval()


def random_codes(side: int) -> torch.Tensor:
    codes = torch.randn(2, len(BOX_CODE), side, side)
    codes[:, :2] = torch.rand(2, 2, side, side)
    return codes


def turned(maps: torch.Tensor, quarters: int = 1) -> torch.Tensor:
    """The map of a world that is turned left, about the map's middle: +x (columns) becomes +y (rows)."""
    return torch.rot90(maps, quarters, (3, 2))


def turned_codes(codes: torch.Tensor) -> torch.Tensor:
    codes = turned(codes)
    x, y, still, sin, cos, vx, vy = codes.split([1, 1, 4, 1, 1, 1, 1], 1)
    # the corner that offsets count from is another one
    return torch.cat([1 - y, x, still, cos, -sin, -vy, vx], 1)


def test_before_training_a_code_stays_as_it_is_but_for_the_headings_length(aligned) -> None:
    codes = random_codes(8)
    with torch.no_grad():
        corrected = aligned(torch.randn(2, 6, 8, 8), codes)

    assert torch.equal(corrected[:, :HEADING.start], codes[:, :HEADING.start])
    assert torch.equal(corrected[:, CODE_VELOCITY], codes[:, CODE_VELOCITY])
    expected = codes[:, HEADING] / codes[:, HEADING].norm(dim=1, keepdim=True)
    torch.testing.assert_close(corrected[:, HEADING], expected)


def test_a_turned_world_has_turned_codes(aligned) -> None:
    torch.nn.init.normal_(aligned.last.weight)
    features, codes = torch.randn(2, 6, 12, 12), random_codes(12)
    with torch.no_grad():
        here = aligned(features, codes)
        there = aligned(turned(features), turned_codes(codes))

    torch.testing.assert_close(there, turned_codes(here), atol=1e-4, rtol=1e-4)
    # and the corrections are not nothing
    assert (here[:, CODE_VELOCITY] - codes[:, CODE_VELOCITY]).abs().mean() > 0.5


@pytest.mark.parametrize('yaw_deg, row, column', [(0, 10, 13), (90, 13, 10), (180, 10, 7), (-90, 7, 10)])
def test_the_front_is_read_where_the_box_points(aligned, yaw_deg: float, row: int, column: int) -> None:
    yaw, half_length_m = np.radians(yaw_deg), 3 * CELL_M / 1.2
    code = torch.zeros(1, len(BOX_CODE), 21, 21)
    code[:, :2] = 0.5
    code[:, 3], code[:, 4] = np.log(2 * half_length_m), np.log(1.0)
    code[:, 6], code[:, 7] = np.sin(yaw), np.cos(yaw)
    maps = torch.zeros(1, 4, 21, 21)
    maps[0, :, row, column] = 1

    heading = code[:, HEADING]
    read = aligned._read(maps, code, heading).reshape(4, 5, 3, 21, 21)[:, :, :, 10, 10]
    # least half width: a cell, read at 0.9 of it
    assert torch.allclose(read[:, 4, 1], torch.ones(4), atol=1e-5)
    assert torch.allclose(read[:, 4, 0], torch.full((4,), 0.1), atol=1e-5)
    assert read[:, :3].abs().max() < 1e-5


def test_a_first_code_is_not_moved_by_what_it_reads(aligned) -> None:
    """Where to read is no way to a smaller loss: places have no gradient."""
    torch.nn.init.normal_(aligned.last.weight)
    codes = random_codes(8).requires_grad_()
    aligned(torch.randn(2, 6, 8, 8), codes)[:, CODE_VELOCITY].sum().backward()

    assert torch.equal(codes.grad[:, :CODE_VELOCITY.start], torch.zeros_like(codes)[:, :CODE_VELOCITY.start])
    assert torch.equal(codes.grad[:, CODE_VELOCITY], torch.ones_like(codes)[:, CODE_VELOCITY])


def test_headings_of_no_length_and_absurd_sizes_stay_finite(aligned) -> None:
    codes = torch.zeros(1, len(BOX_CODE), 4, 4)
    codes[:, 3:6] = 1e4
    codes[:, 0] = -1e6
    codes.requires_grad_()
    corrected = aligned(torch.randn(1, 6, 4, 4), codes)
    corrected.sum().backward()
    assert torch.isfinite(corrected).all() and torch.isfinite(codes.grad).all()
