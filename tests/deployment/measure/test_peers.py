"""Ours and a peer in turns: who is called when, what is counted, what is said."""
from __future__ import annotations

import time

import pytest

from perception.deployment.measure.peers import format_peers, time_in_turns


def test_peers_take_turns_and_the_first_of_each_is_not_counted():
    order = []

    def call(name: str, seconds: float):
        def wait() -> None:
            order.append(name)
            time.sleep(0.2 if order.count(name) == 1 else seconds)
        return wait

    rows = time_in_turns({'ours': call('ours', 0.01), 'peer': call('peer', 0.04)}, runs=3)
    assert order == ['ours', 'peer'] * 4
    assert 10 <= rows['ours']['ms'] < 200 and 40 <= rows['peer']['ms'] < 200 and rows['peer']['runs'] == 3
    assert rows['peer']['core_ms'] < rows['peer']['ms']  # waiting is no work


def test_peers_are_compared_with_the_last():
    rows = {'ours': {'ms': 50.0, 'core_ms': 80.0}, 'peer': {'ms': 500.0, 'core_ms': 400.0}}
    _, ours, peer = format_peers(rows).splitlines()
    assert ours.split() == ['ours', '50.0', '10.00x', '80.0', '5.00x']
    assert peer.split() == ['peer', '500.0', '1.00x', '400.0', '1.00x']


def test_a_sweep_through_the_peer():
    pytest.importorskip('mmdet3d', reason='needs OpenMMLab: make test-mm')
    from perception.deployment.frames import random_frames
    from perception.deployment.measure.peers import peer_call
    batch = random_frames((8, 8), 2000).read(0)
    answer, = peer_call(batch.lidar_points[0])()
    assert answer.pred_instances_3d.bboxes_3d.tensor.shape[1] == 9
