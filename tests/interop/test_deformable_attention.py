"""Our deformable attention against mmcv's: its torch form everywhere, its kernel where there is a GPU."""
from __future__ import annotations

import pytest
import torch

from perception.bev.ops.deformable_attention import (
    _stack,
    deformable_attention_grid_sample,
    deformable_attention_mmcv,
    mmcv_kernel,
)

MISSING = 'needs the extra [mm]: `make test-mm` builds an environment that has it'
theirs = pytest.importorskip('mmcv.ops.multi_scale_deform_attn', reason=MISSING)

pytestmark = pytest.mark.interop


def both(read, device='cpu'):
    """Values and gradients of our GridSample form and of `read` on one problem."""
    for each in (read, deformable_attention_grid_sample):
        generator = torch.Generator().manual_seed(1)
        values = [
            torch.randn(2, 32, *s, generator=generator).to(device).requires_grad_() for s in ((9, 7), (5, 6))
        ]
        places = (torch.rand(2, 11, 4, 2, 3, 2, generator=generator) * 1.2 - 0.1).to(device).requires_grad_()
        weights = torch.rand(2, 11, 4, 2, 3, generator=generator).to(device).requires_grad_()
        out = each(values, places, weights)
        out.square().sum().backward()
        yield [out, *(t.grad for t in (*values, places, weights))]


def check(read, device='cpu'):
    for found, expected in zip(*both(read, device), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_their_torch_form():
    def read(values, places, weights):
        shapes, _, stacked = _stack(values, places.shape[2])
        return theirs.multi_scale_deformable_attn_pytorch(stacked, shapes, places, weights)
    check(read)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_their_kernel():
    kernel = mmcv_kernel()
    if kernel is None:
        pytest.skip('mmcv is installed without its operators')
    check(lambda *arguments: deformable_attention_mmcv(*arguments, kernel), 'cuda')
