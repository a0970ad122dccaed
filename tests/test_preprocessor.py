"""Images are normalised once, absent cameras are black, everything else passes untouched."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from perception.bev.ops.memory_order import map_format
from perception.preprocessor import BatchPreprocessor
from tests.helpers import make_batch


def test_normalisation_by_hand():
    batch = make_batch(1, 2)
    batch.images_BN3HW[0, 0] = 0
    batch.camera_present_BN[0, 1] = False
    before = batch.images_BN3HW.clone()
    out = BatchPreprocessor((100, 110, 120), (50, 55, 60))(
        {'inputs': batch, 'data_samples': ['kept']}
    )
    images = out['inputs'].images_BN3HW
    assert images.dtype == torch.float32 and (images[0, 0] == -2).all() and (images[0, 1] == 0).all()
    assert images.flatten(0, 1).is_contiguous(memory_format=map_format('cpu'))
    assert out['data_samples'] == ['kept'] and torch.equal(batch.images_BN3HW, before)
    assert torch.equal(out['inputs'].lidar_points[0], batch.lidar_points[0])


def test_float_images_are_taken_as_normalised():
    once = BatchPreprocessor()({'inputs': make_batch(1)})
    twice = BatchPreprocessor()(once)
    assert torch.equal(once['inputs'].images_BN3HW, twice['inputs'].images_BN3HW)
    assert once['data_samples'] is None


def test_a_batch_without_cameras_passes():
    batch = replace(
        make_batch(1), images_BN3HW=None, K_BN33=None, ego_T_cam_BN44=None, camera_present_BN=None
    )
    assert BatchPreprocessor()({'inputs': batch})['inputs'].images_BN3HW is None


def test_strangers_are_refused():
    with pytest.raises(TypeError, match='expected a Batch'):
        BatchPreprocessor()({'inputs': torch.zeros(1)})
    with pytest.raises(ValueError, match='deviations'):
        BatchPreprocessor(std=(1, 0, 1))
    assert not BatchPreprocessor().state_dict()


def test_targets_of_a_loader_go_along():
    targets = {'a': [torch.ones(2), 'word'], 'b': None}
    kept = BatchPreprocessor()({'inputs': make_batch(1), 'targets': targets})
    assert torch.equal(kept['targets']['a'][0], torch.ones(2)) and kept['targets']['a'][1] == 'word'
    assert 'targets' not in BatchPreprocessor()({'inputs': make_batch(1)})

    meta = BatchPreprocessor().to('meta')
    assert meta({'inputs': make_batch(1), 'targets': {'a': (torch.ones(2),)}})['targets']['a'][0].is_meta


def test_configurations_of_older_versions_build():
    """Beside an exported network or in a work dir: the order in memory was a choice there."""
    old, new = BatchPreprocessor(channels_last=False), BatchPreprocessor()
    batch = {'inputs': make_batch(1)}
    assert torch.equal(old(batch)['inputs'].images_BN3HW, new(batch)['inputs'].images_BN3HW)
