"""A node that receives separate inputs computes the same as from their concatenation, and stores no concatenation."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unetpp.model.blocks import CONV
from unetpp.model.build import build_model
from unetpp.model.deferred import concatenate, convolve_parts, defer_concatenation


@settings(max_examples=20, deadline=None)
@given(
    dims=st.sampled_from([2, 3]),
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    kernel=st.sampled_from([1, 3]),
    bias=st.booleans(),
)
def test_a_convolution_of_parts_is_that_of_their_concatenation(
    dims: int, widths: list[int], kernel: int, bias: bool
) -> None:
    conv = CONV[dims](sum(widths), 4, kernel, padding=kernel // 2, bias=bias)
    weights = tuple(conv.parameters())
    parts = tuple(torch.randn(2, width, *(5,) * dims, requires_grad=True) for width in widths)
    whole, summed = conv(concatenate(parts)), convolve_parts(conv, parts)
    torch.testing.assert_close(summed, whole)
    gradient = torch.randn_like(whole)
    for ours, theirs in zip(
        torch.autograd.grad(summed, (*parts, *weights), gradient),
        torch.autograd.grad(whole, (*parts, *weights), gradient),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        # predictions are those of one convolution, bit for bit
        assert torch.equal(convolve_parts(conv, defer_concatenation(parts)), whole)


def test_training_keeps_no_concatenation() -> None:
    kept: set[tuple[int, ...]] = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tuple(tensor.shape))
        return tensor

    network, x = (
        build_model(topology="unet++", depth=3, widths=(4, 5, 6, 7), block="residual"),
        torch.randn(2, 1, 16, 16),
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x, heads=True)
    assert {shape[1] for shape in kept if shape[2:] == (16, 16)} <= {1, 2, 4}
