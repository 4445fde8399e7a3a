from __future__ import annotations

import torch

from unetpp.train.separable import multiply_axes


def test_each_axis_is_multiplied_by_its_matrix() -> None:
    torch.manual_seed(0)
    image, first, last = torch.randn(2, 4, 5, 6), torch.randn(7, 4), torch.randn(3, 6)
    expected = torch.einsum("cijk,ai,bk->cajb", image, first, last)
    assert torch.allclose(multiply_axes(image, [first, None, last]), expected, atol=1e-4)
    assert torch.equal(multiply_axes(image, [None, torch.eye(5), None]), image)
