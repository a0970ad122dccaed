"""Published weights of voxels: two layouts of sparse kernels, the names of CenterPoint's sparse encoder."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from perception.bev.published.voxelnet import VoxelNet
from perception.core.grid import BEVGrid
from perception.fusion.concat import OneSensor
from perception.fusion.trunk import NoTrunk
from perception.heads.detection.classes import SIX_GROUPS
from perception.heads.detection.head import CenterHead
from perception.model import MultiTaskPerception
from perception.training.published.importing import import_weights
from perception.training.published.sparse_kernels import sparse_kernel
from perception.training.published.turning import Axes
from tests.training.test_published import their_name

EGO = Axes(0, ((1, 0), (0, 1)), 0.0)


def make_centerpoint(widths: tuple[int, ...] = (4, 8, 12, 16)) -> MultiTaskPerception:
    """The published form on +-12.8 m, an eighth of its width."""
    torch.manual_seed(0)
    ground = dict(x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8), z_range_m=(-5.0, 3.0))
    grid = BEVGrid(**ground, cell_m=3.2)
    encoder = VoxelNet(
        BEVGrid(**ground, cell_m=0.4, height_cell_m=0.2), grid, widths, 8, (16, 24), (1, 1), 24)
    head = CenterHead(grid, 24, 8, SIX_GROUPS, dict(channels=64, separate=True, final_kernel=3))
    return MultiTaskPerception(
        {'lidar': encoder}, OneSensor({'lidar': 24}), NoTrunk(24), {'detection': head})


def their_voxel_name(name: str) -> str | None:
    """A tensor of `make_centerpoint` as mmdet3d calls it."""
    name = name.replace('encoders.lidar.middle.', 'pts_middle_encoder.')
    name = name.replace('entry.layer', 'conv_input').replace('output.layer', 'conv_out')
    name = re.sub(r'stages\.(\d)\.(?=\d\.(?:first|second|layer))', lambda m: (
        f'encoder_layers.encoder_layer{int(m[1]) + 1}.'), name)
    name = re.sub(r'first\.(?:conv|norm)', lambda m: 'conv1' if 'conv' in m[0] else 'bn1', name)
    name = re.sub(r'second\.(?:conv|norm)', lambda m: 'conv2' if 'conv' in m[0] else 'bn2', name)
    name = re.sub(r'(conv_input|conv_out|\d\.layer)\.(conv|norm)', lambda m: (
        f'{m[1].removesuffix(".layer")}.{0 if m[2] == "conv" else 1}'), name)
    return name if name.startswith('pts_middle') else their_name(name)


def published(model: MultiTaskPerception, path: Path, layout: int) -> Path:
    """A model's weights by their names, sparse kernels as spconv 1 or 2 keeps them."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if (theirs := their_voxel_name(name)) and not name.endswith('tracked'):
            if tensor.ndim == 5:
                tensor = tensor.permute(2, 3, 4, 1, 0) if layout == 1 else tensor.permute(0, 2, 3, 4, 1)
            weights[theirs] = tensor.contiguous()
    torch.save({'state_dict': weights}, path)
    return path


def test_layouts_by_hand():
    """Output 1 reads input 2 one height up with weight 7, in either layout."""
    first, second = torch.zeros(3, 1, 1, 4, 5), torch.zeros(5, 3, 1, 1, 4)
    first[2, 0, 0, 2, 1] = second[1, 2, 0, 0, 2] = 7
    for kernel in (sparse_kernel(first, EGO), sparse_kernel(second, EGO)):
        assert kernel.shape == (5, 4, 3, 1, 1) and kernel[1, 2, 2, 0, 0] == 7 and kernel.sum() == 7


@pytest.mark.parametrize('shape, message', [
    ((3, 3, 3, 3, 16), 'of spconv 1 .* as well as of spconv 2'), ((3, 3, 3, 3, 3), 'as well as of spconv 2'),
    ((16, 5, 3, 3, 3), r'expected a kernel of 3 x 3 x 3 or 3 x 1 x 1.* found \(16, 5, 3, 3, 3\)'),
    ((16, 5, 3, 3), 'expected a kernel')])
def test_what_is_no_clear_layout_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        sparse_kernel(torch.zeros(shape), EGO)


@pytest.mark.parametrize('layout', [1, 2])
def test_every_tensor_of_the_voxels_finds_its_place(layout, tmp_path):
    source, model = make_centerpoint(), make_centerpoint()
    for tensor in (*source.parameters(), *source.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    path = published(source, tmp_path / 'voxels.pth', layout)
    names = torch.load(path, weights_only=True)['state_dict']
    assert 'pts_middle_encoder.encoder_layers.encoder_layer3.2.0.weight' in names
    assert 'pts_middle_encoder.encoder_layers.encoder_layer4.1.bn2.running_var' in names

    imported = import_weights(model, path, 'centerpoint_voxels')
    assert not imported.unplaced and all('.regression.5.' in name for name in imported.new)
    expected = source.state_dict()
    for name, tensor in model.state_dict().items():
        if name in imported.taken:
            assert torch.equal(tensor, expected[name]), name
    missed = {name for name in expected if name.startswith(('encoders', 'heads'))} - set(imported.taken)
    assert all(name.endswith('tracked') or name in imported.new for name in missed)


def test_another_architecture_is_named(tmp_path):
    """Other widths, a layer that is absent: what does not fit is said by name."""
    path = published(make_centerpoint(), tmp_path / 'voxels.pth', 1)
    with pytest.raises(ValueError, match=r'layer2.0.conv1.weight \(8, 8, 3, 3, 3\): .* has \(10, 10'):
        import_weights(make_centerpoint((4, 10, 12, 16)), path, 'centerpoint_voxels')

    weights = torch.load(path, weights_only=True)['state_dict']
    del weights['pts_middle_encoder.conv_out.0.weight']
    torch.save({'state_dict': weights}, path)
    with pytest.raises(ValueError, match='middle.output.layer.conv.weight is absent from the file'):
        import_weights(make_centerpoint(), path, 'centerpoint_voxels')
