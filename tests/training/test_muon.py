"""MuonAdamW: singular values near one, steps of a known size, AdamW for the rest, a state to save."""
import pytest
import torch

from perception.registry import OPTIMIZERS
from perception.training.muon import MuonAdamW, orthogonalise


def parameter(*shape: int, seed: int = 0) -> torch.nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    built = torch.nn.Parameter(torch.randn(shape, generator=generator))
    built.grad = torch.randn(shape, generator=generator)
    return built


@pytest.mark.parametrize('half', [True, False])
@pytest.mark.parametrize('shape', [(32, 32), (32, 288), (256, 32)])
def test_singular_values_come_near_one_and_vectors_stay(monkeypatch, shape, half):
    monkeypatch.setattr('perception.training.muon.computes_bfloat16', lambda device: half)
    matrix = parameter(*shape).grad
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ orthogonalise(matrix) @ v.T
    # the smallest singular values of a square Gaussian matrix need more than five steps: the bulk counts
    assert (rotated.diagonal()[:-4] > 0.6).all() and (rotated.diagonal() < 1.3).all()
    assert (rotated - torch.diag(rotated.diagonal())).abs().max() < 0.05


@pytest.mark.parametrize('kind', ['random', 'four directions', 'fading'])
@pytest.mark.parametrize('steps', [1, 5, 9])
def test_a_long_matrix_is_the_iteration_as_it_is_written(monkeypatch, kind, steps):
    monkeypatch.setattr('perception.training.muon.computes_bfloat16', lambda device: False)
    matrix = parameter(48, 432).grad
    if kind == 'four directions':
        matrix = matrix[:, :4] @ matrix[:4]
    elif kind == 'fading':
        matrix = torch.logspace(0, -8, 48)[:, None] * matrix

    x = (matrix / matrix.norm()).double()
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    found = orthogonalise(matrix, steps).double()
    # singular values that are rounding alone grow by 3.44 a step, whichever way they are computed
    assert (found - x).norm() < (1e-5 if kind != 'four directions' else 1e-5 * 3.4445 ** steps) * x.norm()


def test_orthogonalising_nothing_gives_nothing():
    assert not orthogonalise(torch.zeros(32, 64)).any()


@pytest.mark.parametrize('shape', [(48, 32, 3, 3), (64, 64)])
@pytest.mark.parametrize('scale', [0.2, 1.0])
def test_a_step_has_the_size_it_is_given(shape, scale):
    moved = parameter(*shape)
    before = moved.detach().clone()
    MuonAdamW([moved], lr=0.1, weight_decay=0.0, scale=scale).step()
    assert float((moved.detach() - before).square().mean().sqrt()) == pytest.approx(0.1 * scale, rel=0.2)


@pytest.mark.parametrize('shape', [(64,), (8, 64)])
def test_vectors_and_small_matrices_move_as_with_adamw(shape):
    ours, theirs = parameter(*shape), parameter(*shape)
    decay = 0.1 if len(shape) > 1 else 0.0
    a = MuonAdamW([ours], lr=0.01, weight_decay=0.1)
    b = torch.optim.AdamW([theirs], lr=0.01, weight_decay=decay, betas=(0.9, 0.95), eps=1e-8)
    for _ in range(3):
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_group_can_be_given_to_adamw():
    ours, theirs = parameter(64, 64), parameter(64, 64)
    MuonAdamW([{'params': [ours], 'muon': False}], lr=0.01, weight_decay=0.0).step()
    torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.0, betas=(0.9, 0.95)).step()
    torch.testing.assert_close(ours, theirs)


def test_a_kernel_moves_as_its_matrix_whatever_its_memory_layout():
    kernel, flat = parameter(48, 32, 3, 3), torch.nn.Parameter(parameter(48, 32, 3, 3).detach().flatten(1))
    flat.grad = kernel.grad.flatten(1).clone()
    kernel.data = kernel.data.to(memory_format=torch.channels_last)
    kernel.grad = kernel.grad.to(memory_format=torch.channels_last)
    for moved in (kernel, flat):
        MuonAdamW([moved], lr=0.1).step()
    torch.testing.assert_close(kernel.flatten(1), flat, rtol=1e-3, atol=1e-4)


def test_it_reaches_a_minimum_and_goes_on_from_a_saved_state(tmp_path):
    target = parameter(32, 32, seed=1).detach()

    def steps(moved: torch.nn.Parameter, optimiser: MuonAdamW, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            (moved - target).square().sum().backward()
            optimiser.step()

    whole, half = parameter(32, 32), parameter(32, 32)
    first = MuonAdamW([whole], lr=0.02, weight_decay=0.0, scale=1.0)
    steps(whole, first, 200)
    assert (whole - target).abs().mean() < 0.1 * (parameter(32, 32) - target).abs().mean()
    begun = MuonAdamW([half], lr=0.02, weight_decay=0.0, scale=1.0)
    steps(half, begun, 100)
    torch.save(begun.state_dict(), tmp_path / 'state.pth')
    resumed = MuonAdamW([half], lr=0.5)
    resumed.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    steps(half, resumed, 100)
    torch.testing.assert_close(half, whole)


def test_it_is_known_by_name_and_refuses_a_negative_rate():
    assert OPTIMIZERS.get('MuonAdamW') is MuonAdamW
    with pytest.raises(ValueError, match='negative'):
        MuonAdamW([parameter(2, 2)], lr=-1.0)
