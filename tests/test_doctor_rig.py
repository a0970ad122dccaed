"""The doctor on rigs: what differs from the rig of training is found, and the picture is drawn."""
from __future__ import annotations

import json
import math

import numpy as np
import pytest

from perception.cli import run_verb
from perception.core.lens import Distortion
from perception.core.rig.coverage import ground_coverage, view_angles_rad
from perception.core.rig.file import DEFAULT_RIG_PATH, load_rig, rig_record
from perception.core.rig.sensors import CameraSensor
from perception.doctor.finding import Finding
from perception.doctor.rig import check_rig, neighbours, trained_with
from perception.doctor.rig_picture import draw_rig


def findings_of(tmp_path, change) -> dict[tuple[str, str], Finding]:
    content = rig_record(load_rig())
    change(content)
    (tmp_path / 'rig.json').write_text(json.dumps(content), encoding='utf-8')
    found = check_rig(load_rig(tmp_path / 'rig.json'), trained_with(load_rig(), None))
    return {(finding.area, finding.name): finding for finding in found}


def test_the_rig_of_training_is_ok_all_over(tmp_path):
    found = findings_of(tmp_path, lambda content: None)
    assert len(found) == 57 and all(f.state == 'ok' and not f.next_step for f in found.values())
    assert found['camera CAM_FRONT', 'horizon'].detail == 'row 54 of 256; trained: 54'
    assert found['camera CAM_BACK', 'focal length'].detail.startswith('386 pixels per radian')


@pytest.mark.parametrize(('camera', 'name', 'state', 'detail'), [
    ({'xyz_m': [1.7, 0, 2.2]}, 'height', 'partly', '2.20 m; trained: 1.50 to 1.57 m'),
    ({'xyz_m': [1.7, 0, 2.9]}, 'height', 'broken', '2.90 m'),
    ({'pitch_deg': 6.0}, 'pitch', 'partly', '6.0 degrees down'),
    ({'pitch_deg': 80.0}, 'horizon', 'broken', 'it sees none'),
    ({'roll_deg': -8.0}, 'roll', 'broken', '-8.0 degrees'),
    ({'size_hw': [1216, 1936], 'cx': 967.5, 'cy': 607.5, 'fx': 1984.0, 'fy': 1984.0}, 'image', 'ok',
     '1936 x 1216 pixels, unlike training: by focal length and horizon; resized by 0.305'),
    ({'size_hw': [1216, 1936], 'cx': 967.5, 'cy': 607.5, 'fx': 1984.0, 'fy': 1984.0}, 'lost', 'partly',
     '11.4 top'),
    ({'size_hw': [300, 600], 'cx': 300, 'cy': 150, 'fx': 1200.0, 'fy': 1200.0}, 'lost', 'broken', 'black')])
def test_what_differs_of_a_camera_is_graded(camera, name, state, detail, tmp_path):
    found = findings_of(tmp_path, lambda c: c['cameras']['CAM_FRONT'].update(camera))
    finding = found['camera CAM_FRONT', name]
    assert finding.state == state and detail in finding.detail and bool(finding.next_step) == (state != 'ok')
    assert all(f.state == 'ok' for key, f in found.items() if key[0] == 'camera CAM_BACK')


def test_a_camera_less_leaves_a_gap_and_blind_ground(tmp_path):
    found = findings_of(tmp_path, lambda c: c['cameras'].pop('CAM_FRONT'))
    gap = found['around', 'CAM_FRONT_RIGHT | CAM_FRONT_LEFT']
    # borders of sight: 55 - atan(773.5 / 1260) to the left, 56 - atan(812.5 / 1260) to the right
    assert gap.state == 'partly' and gap.detail == '47 degrees unseen'
    assert found['ground', '30 to 50 m'].state == 'partly'
    assert 'not in the rig: CAM_FRONT' in found['cameras', 'names'].detail


def test_without_lidar_and_with_other_beams(tmp_path):
    found = findings_of(tmp_path, lambda c: c.update(lidars={}, radars={}))
    assert found['lidar', 'all'].state == 'absent' and found['radars', 'all'].state == 'absent'
    found = findings_of(tmp_path, lambda c: c['lidars']['LIDAR_TOP'].update(beams=8))
    beams = found['lidar', 'beams']
    assert beams.state == 'broken' and beams.detail.startswith('8 from -30.7')


def test_ground_that_a_camera_sees_begins_where_its_lower_border_meets_it():
    rig = load_rig()
    front = rig.cameras['CAM_FRONT']
    ground = ground_coverage(rig, 10.0, 0.1)
    row = np.argmin(abs(ground.y_m))
    seen_m = ground.x_m[ground.by_camera[:, row] & (ground.x_m > 2)]
    lowest_rad = math.atan((899.5 - 490) / 1260) + math.radians(0.5)
    assert seen_m.min() == pytest.approx(front.ego_T_cam[0, 3] + 1.51 / math.tan(lowest_rad), abs=0.1)

    # the LiDAR: from where its lowest beam meets the ground, on every side
    distance_m = np.hypot(ground.x_m[:, None] - 0.96, ground.y_m)
    assert distance_m[ground.by_lidar].min() == pytest.approx(1.84 / math.tan(math.radians(30.67)), abs=0.1)
    assert ground.unseen(ground.by_lidar, (8.0, 10.0)) == [0.0]


def test_a_fisheye_sees_to_its_lenss_field():
    front = load_rig().cameras['CAM_FRONT']
    K = np.array([[500.0, 0, 799.5], [0, 500, 449.5], [0, 0, 1]])
    lens = Distortion('kannala_brandt', (0.0, 0, 0, 0))
    right, left = view_angles_rad(CameraSensor('F', (900, 1600), K, front.ego_T_cam, lens))
    # equidistant: 800 pixels at 500 per radian
    assert left == pytest.approx(1.6, abs=1e-6) and right == pytest.approx(-1.6, abs=1e-6)


def test_a_rig_whose_lens_leaves_a_row_dark_is_drawn_under_any_name(tmp_path):
    lens = {'model': 'kannala_brandt', 'coefficients': [0.01, 0, 0, 0]}
    content = rig_record(load_rig())
    content['cameras']['CAM_FRONT'] |= {'cx': 900_000.0, 'distortion': lens}
    (tmp_path / 'rig.json').write_text(json.dumps(content), encoding='utf-8')
    rig = load_rig(tmp_path / 'rig.json')
    assert view_angles_rad(rig.cameras['CAM_FRONT']) == pytest.approx((0, 0))
    assert draw_rig(rig, tmp_path / 'rig.png', 'my $\\frac$ car.json').stat().st_size > 10_000


def test_neighbours_go_around_the_car():
    pairs = neighbours(load_rig())
    assert [pair[0] for pair in pairs] == [
        'CAM_FRONT', 'CAM_FRONT_LEFT', 'CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT', 'CAM_FRONT_RIGHT']
    assert all(4 < overlap_deg < 12 for *_, overlap_deg in pairs)


def test_the_verb_prints_and_draws(tmp_path, capsys):
    picture = tmp_path / 'rig.png'
    words = ['--rig', str(DEFAULT_RIG_PATH), '--config', 'configs/world/robust.py', '--picture', str(picture)]
    assert run_verb('doctor', words) == 0
    text = capsys.readouterr().out
    assert 'row 27 of 128; trained: 27' in text and f'57 of 57 as in training. Picture: {picture}' in text
    import cv2
    image = cv2.imread(str(picture))
    assert image.shape[0] > 600 and len(np.unique(image.reshape(-1, 3), axis=0)) > 50

    with pytest.raises(SystemExit):
        run_verb('doctor', ['--picture', 'x.png'])
    assert '--picture: expected --rig beside it' in capsys.readouterr().err
