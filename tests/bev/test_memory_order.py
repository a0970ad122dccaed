"""The order in memory follows the processor and changes no value."""
import pytest
import torch

from perception.bev.ops.memory_order import laid_out, map_format


@pytest.mark.parametrize(
    ('capability', 'device', 'expected'),
    [('AVX2', 'cpu', torch.contiguous_format), ('DEFAULT', 'cpu', torch.contiguous_format),
     ('AVX512', 'cpu', torch.channels_last), ('AVX2', 'cuda', torch.channels_last)])
def test_the_order_is_that_of_the_fastest_weight_gradient(monkeypatch, capability, device, expected):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    map_format.cache_clear()
    assert map_format(device) is expected
    map_format.cache_clear()


def test_values_stay():
    cells = torch.randn(2, 5, 7, 3).permute(0, 3, 1, 2)
    found = laid_out(cells)
    assert torch.equal(found, cells) and found.is_contiguous(memory_format=map_format('cpu'))
