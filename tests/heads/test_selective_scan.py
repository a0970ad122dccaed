"""The selective scan: blocks equal steps in values and gradients, and a map's four paths."""
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from perception.heads.m3net import selective_scan as module
from perception.heads.m3net.scan_loops import selective_scan_loops
from perception.heads.m3net.selective_scan import (
    blocked_scan,
    linear_scan,
    selective_scan,
    selective_scan_reference,
)
from perception.heads.m3net.ss2d import SS2D, cross_merge, cross_scan
from tests.export_check import assert_exports


def arguments(steps: int, groups: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """u, delta, A, B, C, D of two samples, six channels, three states."""
    g = torch.Generator().manual_seed(steps)
    draws = [torch.randn(*shape, generator=g) for shape in
             ((2, 6, steps), (2, 6, steps), (6, 3), (2, groups, 3, steps), (2, groups, 3, steps), (6,))]
    draws[1], draws[2] = nn.functional.softplus(draws[1]), -draws[2].exp()
    return [d.to(dtype).requires_grad_() for d in draws]


@pytest.mark.parametrize('steps', [1, 7, 8, 9, 64, 65, 200])
@pytest.mark.parametrize('groups', [1, 2, 3])
def test_blocks_equal_steps(steps, groups) -> None:
    inputs = arguments(steps, groups)
    fast, slow = selective_scan(*inputs), selective_scan_reference(*inputs)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    weight = torch.randn_like(fast)
    for found, expected in zip(torch.autograd.grad((fast * weight).sum(), inputs),
                               torch.autograd.grad((slow * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def kept_bytes(compute) -> tuple[int, Tensor]:
    """What the graph of `compute()` keeps for its gradient, and its result."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    return sum(kept.values()), result


def test_large_states_are_computed_again_and_not_kept(monkeypatch) -> None:
    """The same numbers and gradients to the last bits; three states keep two tensors of u's size each."""
    inputs, size = arguments(64), 2 * 6 * 64 * 4
    whole, first = kept_bytes(lambda: selective_scan(*inputs))
    gradients = torch.autograd.grad(first.square().sum(), inputs)

    monkeypatch.setattr(module, 'KEPT_BYTES', 6 * size - 1)
    little, second = kept_bytes(lambda: selective_scan(*inputs))
    assert torch.equal(first, second) and little <= whole - 6 * size
    for found, expected in zip(torch.autograd.grad(second.square().sum(), inputs), gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('threads', [1, 2, 5])
@pytest.mark.parametrize('groups', [1, 2, 3])
@pytest.mark.parametrize('steps', [1, 9, 200])
def test_loops_equal_steps(steps, groups, threads) -> None:
    """Shares of the channels end within groups and at their borders."""
    inputs = [x.detach() for x in arguments(steps, groups)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = selective_scan(*inputs)
    finally:
        torch.set_num_threads(before)
    expected = selective_scan_reference(*(x.double() for x in inputs)).float()
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)
    assert torch.equal(found, selective_scan_loops(*inputs))


def test_loops_serve_where_no_gradient_is_asked_for(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(
        module, 'selective_scan_loops', lambda *parts: asked.append(1) or selective_scan_loops(*parts)
    )
    inputs = arguments(9)
    assert selective_scan(*inputs).requires_grad and not asked
    with torch.no_grad():
        selective_scan(*inputs)
    selective_scan(*(x.detach() for x in inputs))
    assert len(asked) == 2


def test_gradient_by_differences() -> None:
    a, b = (torch.rand(11, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(linear_scan, (a, b))


def test_by_hand() -> None:
    """Half of what was is kept: 1, then 1 + 1/2, then 1 + 1/2 + 1/4."""
    a, b = torch.full((3, 1), 0.5), torch.ones(3, 1)
    assert linear_scan(a, b)[:, 0].tolist() == [1.0, 1.5, 1.75]
    ones = torch.ones(1, 1, 1)
    y = selective_scan(2 * ones, 3 * ones, -torch.ones(1, 1), 5 * ones[None], 7 * ones[None], torch.ones(1))
    assert y.item() == 3 * 5 * 2 * 7 + 2


def test_long_forgetting_stays_finite() -> None:
    """Steps that forget everything at once must not divide by what is left."""
    inputs = arguments(300)
    long = [inputs[0], inputs[1] * 1e3, *inputs[2:]]
    found = selective_scan(*long)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, selective_scan_reference(*long), rtol=1e-4, atol=1e-2)


def test_the_kernel_serves_gpus_alone(monkeypatch) -> None:
    monkeypatch.setattr(module, 'selective_scan_kernel', lambda: pytest.fail('asked for a kernel on the CPU'))
    selective_scan(*arguments(4))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or module.selective_scan_kernel() is None, reason='no GPU or no mamba_ssm'
)
def test_the_kernel_agrees() -> None:
    inputs = [x.detach().cuda() for x in arguments(64)]
    torch.testing.assert_close(
        selective_scan(*inputs), selective_scan_reference(*inputs), atol=1e-4, rtol=1e-3
    )


def test_depth_grows_with_the_logarithm(monkeypatch) -> None:
    """4096 steps are taken in four rounds of eight."""
    rounds, original = [], module._step_by_step
    monkeypatch.setattr(module, '_step_by_step', lambda a, b: rounds.append(len(a)) or original(a, b))
    blocked_scan(torch.rand(4096, 1), torch.rand(4096, 1))
    assert rounds == [8, 8, 8, 8]


# -------------------------------------------------------------------- over a map

def test_paths_cross_the_map() -> None:
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    assert cross_scan(maps)[0, :, 0].tolist() == [
        [0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]
    assert torch.equal(cross_merge(cross_scan(maps), (2, 3)), 4 * maps)


def test_every_cell_hears_of_every_other() -> None:
    torch.manual_seed(0)
    layer, tokens = SS2D(8, (4, 5), states=2), torch.randn(1, 20, 8, requires_grad=True)
    layer(tokens)[0, 7].sum().backward()
    assert tokens.grad.abs().sum(-1).gt(0).all()


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    layer = SS2D(8, (4, 5), states=3)
    layer(torch.randn(2, 20, 8)).square().sum().backward()
    assert [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_first_steps_are_spread() -> None:
    delta = nn.functional.softplus(SS2D(32, (2, 2)).delta_bias)
    assert 1e-3 * 0.99 <= delta.min() < 2e-3 and 0.05 < delta.max() <= 0.1 * 1.01
    assert abs(delta.log().mean().item() - math.log(1e-2)) < 0.3


def test_bfloat16_agrees() -> None:
    torch.manual_seed(0)
    layer, tokens = SS2D(16, (8, 8)), torch.randn(2, 64, 16)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        half = layer(tokens).float()
    assert (half - layer(tokens)).abs().mean() < 0.03 * layer(tokens).abs().mean()


def test_exports(tmp_path) -> None:
    torch.manual_seed(0)
    layer = SS2D(8, (5, 7), states=module.EXPORTED_STATES + 2)  # the last states fill no whole group
    used = assert_exports(layer, [torch.randn(1, 35, 8)], tmp_path)
    assert not used & {'Loop', 'Scan', 'If'}


class Scan(nn.Module):
    """The scan alone, its matrix an input of the graph: a large one is no constant that could be folded."""

    def forward(self, *parts: Tensor) -> Tensor:
        return selective_scan(*parts)


def test_a_large_scan_exports_as_blocks_in_turn(tmp_path, monkeypatch) -> None:
    """In both runtimes; the last block is not full."""
    import openvino
    monkeypatch.setattr(module, 'KEPT_BYTES', 0)
    monkeypatch.setattr(module, 'EXPORTED_STEPS', 10)
    inputs = [part.detach() for part in arguments(35)]
    used = assert_exports(Scan(), inputs, tmp_path)
    assert 'Scan' in used and not used & {'Loop', 'If'}

    network = openvino.Core().compile_model(str(tmp_path / 'module.onnx'), 'CPU')
    (found,) = network([part.numpy() for part in inputs]).values()
    torch.testing.assert_close(torch.from_numpy(found), selective_scan(*inputs), atol=2e-4, rtol=2e-3)


def test_an_older_torch_exports_no_loop_and_trains(monkeypatch) -> None:
    """2.4 has neither `is_exporting` nor a scan that its exporter writes."""
    monkeypatch.setattr(torch, '__version__', '2.4.1+cpu')
    monkeypatch.delattr(torch.compiler, 'is_exporting')
    inputs = arguments(35)
    selective_scan(*inputs).sum().backward()
    assert inputs[0].grad.any() and not module.exports_loops()
