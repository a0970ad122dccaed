"""Labels of a frame with objects in it: boxes with all their columns, voxels filled, hidden or unknown."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from perception.core.contracts import LabelledArea, MapCells, MapLayers, OccupancyLabels
from perception.core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from perception.datasets.paste.labels import (
    PastedObject,
    VoxelSight,
    with_objects,
    with_vehicle_cells,
    with_voxels,
)
from tests.datasets.conftest import box_labels

ORIGIN = np.array([0.0, 0.0, 1.8])
SHAPE = (200, 200, 16)
# 10 m ahead, on the ground: voxels 120..129 along x, 97..102 along y, 2..7 along z
BOX = np.array([12.0, 0.0, 1.0, 4.0, 2.4, 2.4, 0.0, 3.0, -1.0])
PASTED = PastedObject(BOX, 1, 5, 4, 12, 2, 'vehicle.truck', 'pasted.0.a', np.array([[10.1, 0.1, 1.0]]))


def free() -> OccupancyLabels:
    seen = np.ones(SHAPE, np.uint8)
    return OccupancyLabels(
        np.full(SHAPE, OCCUPANCY_FREE, np.uint8), seen, seen.copy(), np.ones(SHAPE, np.float32))


def voxel(x: float, y: float, z: float) -> tuple[int, int, int]:
    return int((x + 40) / 0.4), int((y + 40) / 0.4), int((z + 1) / 0.4)


def test_a_box_is_added_with_every_column() -> None:
    boxes = with_objects(box_labels(), [PASTED])
    assert len(boxes.labels_M) == 4
    np.testing.assert_allclose(boxes.boxes_M9[-1], BOX)
    last = (boxes.labels_M, boxes.attributes_M, boxes.visibility_M, boxes.num_lidar_points_M,
            boxes.num_radar_points_M)
    assert [int(column[-1]) for column in last] == [1, 5, 4, 12, 2]
    assert boxes.instance_tokens == ('a', 'b', 'c', 'pasted.0.a')
    assert boxes.boxes_M9.dtype == np.float32 and boxes.labels_M.dtype == np.int64

    nameless = with_objects(replace(box_labels(), instance_tokens=()), [PASTED])
    assert nameless.instance_tokens == () and len(nameless.labels_M) == 4
    assert with_objects(box_labels().select([]), [PASTED]).instance_tokens == ('pasted.0.a',)


def test_a_hit_voxel_has_the_class_and_the_rest_of_the_box_is_unknown() -> None:
    before = free()
    after = with_voxels(before, [PASTED], ORIGIN)
    hit = voxel(10.1, 0.1, 1.0)
    assert after.semantics_XYZ[hit] == OCCUPANCY_CLASSES.index('truck')
    assert after.mask_lidar_XYZ[hit] == after.mask_camera_XYZ[hit] == 1

    inside = voxel(12.1, 0.1, 1.0)
    assert after.semantics_XYZ[inside] == 255 and after.mask_lidar_XYZ[inside] == 0
    assert after.density_XYZ[inside] == after.density_XYZ[hit] == 0
    assert (after.semantics_XYZ == 255).sum() == 10 * 6 * 6 - 1
    assert (before.semantics_XYZ == OCCUPANCY_FREE).all() and before.mask_lidar_XYZ.all()


def test_what_is_behind_is_seen_no_more_and_keeps_its_class() -> None:
    after = with_voxels(free(), [PASTED], ORIGIN)
    behind, before, aside, above = (
        voxel(20, 0.1, 0.2), voxel(8, 0.1, 1.0), voxel(20, 8, 0.2), voxel(20, 0.1, 5.2))
    assert after.semantics_XYZ[behind] == OCCUPANCY_FREE
    assert after.mask_lidar_XYZ[behind] == after.mask_camera_XYZ[behind] == 0
    for seen in (before, aside, above):
        assert after.mask_lidar_XYZ[seen] == after.mask_camera_XYZ[seen] == 1


def test_hidden_voxels_are_those_whose_line_goes_through() -> None:
    """Against sampling every line a thousand times, for a turned box beside the car."""
    box = np.array([-6.0, 9.0, 0.8, 4.0, 1.8, 1.6, 0.7, 0, 0])
    hidden = np.zeros(SHAPE, bool)
    hidden[VoxelSight(ORIGIN, SHAPE).hidden(box)] = True

    rng = np.random.default_rng(0)
    chosen = rng.integers(0, [100, 100, 16], (400, 3)) + [20, 100, 0]
    c, s = np.cos(0.7), np.sin(0.7)
    for x, y, z in chosen:
        end = np.array([x, y, z]) * 0.4 + [-39.8, -39.8, -0.8]
        line = ORIGIN + np.linspace(0, 1, 1000)[:, None] * (end - ORIGIN) - box[:3]
        local = np.stack([line[:, 0] * c + line[:, 1] * s, line[:, 1] * c - line[:, 0] * s, line[:, 2]], 1)
        inside = (np.abs(local) <= box[3:6] / 2 + 0.4).all(1)
        if inside.sum() != 1:  # a line that only touches a corner
            assert hidden[x, y, z] == (inside.any() and not inside[-1])


def test_an_object_in_the_shadow_of_another_is_seen() -> None:
    far = replace(PASTED, box_9=BOX + [10, 0, 0, 0, 0, 0, 0, 0, 0], points_P3=np.array([[20.1, 0.1, 1.0]]))
    after = with_voxels(free(), [far, PASTED], ORIGIN)
    hit = voxel(20.1, 0.1, 1.0)
    assert after.semantics_XYZ[hit] == OCCUPANCY_CLASSES.index('truck') and after.mask_lidar_XYZ[hit] == 1


# -------------------------------------------------------------------- a teacher's labels

def test_an_object_counts_whole_among_boxes_and_voxels_that_a_teacher_weighed() -> None:
    weighed = replace(box_labels(), weights_M=np.array([0.5, 0, 0.9], np.float32))
    np.testing.assert_allclose(with_objects(weighed, [PASTED]).weights_M, [0.5, 0, 0.9, 1])
    assert with_objects(box_labels(), [PASTED]).weights_M is None

    after = with_voxels(replace(free(), weights_XYZ=np.full(SHAPE, 0.6, np.float32)), [PASTED], ORIGIN)
    assert after.weights_XYZ[voxel(10.1, 0.1, 1.0)] == 1
    assert (after.weights_XYZ == np.float32(0.6)).sum() == np.prod(SHAPE) - 1
    assert with_voxels(free(), [PASTED], ORIGIN).weights_XYZ is None


def test_a_vehicle_stands_in_a_teachers_map() -> None:
    """Cells of a metre, of an area whose frame is the ego's moved by a metre along x."""
    move = np.eye(4)
    move[0, 3] = 1
    area = LabelledArea((0, 20), (-5, 5), move)
    cells = MapCells(np.zeros((7, 10, 20), np.uint8), np.full((7, 10, 20), 0.25, np.float32), area)
    boxes, cone = box_labels(), replace(PASTED, label=9, box_9=BOX + [0, 3, 0, 0, 0, 0, 0, 0, 0])
    after = with_vehicle_cells(cells, [PASTED, cone], boxes.classes)

    # the truck covers x 10..14, y -1.2..1.2 of ego: x 11..15 of the area
    expected = np.zeros((10, 20), bool)
    expected[4:6, 11:15] = True
    np.testing.assert_array_equal(after.masks_KYX[6], expected)
    np.testing.assert_allclose(after.weights_KYX[6], np.where(expected, 1, 0.25))
    assert not after.masks_KYX[:6].any() and (after.weights_KYX[:6] == 0.25).all()
    assert not cells.masks_KYX.any()

    lines = MapLayers({}, {}, 10.0)
    assert with_vehicle_cells(lines, [PASTED], boxes.classes) is lines
    assert with_vehicle_cells(None, [PASTED], boxes.classes) is None
