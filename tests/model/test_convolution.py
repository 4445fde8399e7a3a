import pytest
import torch
from torch import Tensor, nn

from unetpp.model.convolution import Conv3d


def compute_gradient(conv: nn.Module, x: Tensor, out: Tensor, precision: str) -> Tensor:
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        y = conv(x)
    y.backward(out.to(y.dtype))
    gradient = next(iter(conv.parameters())).grad
    assert gradient is not None
    return gradient


@pytest.mark.parametrize(("kernel", "slices"), [(3, 1), (3, 2), (3, 3), (5, 3), (5, 4), (7, 5)])
def test_the_gradient_in_bf16_is_that_in_float32_where_a_kernel_covers_all_slices(kernel: int, slices: int) -> None:
    torch.manual_seed(0)
    conv = Conv3d(16, 32, (kernel, 3, 3), padding=(kernel // 2, 1, 1), bias=False)
    for _ in range(20):  # memory that was never written is sometimes harmless
        x, out = torch.randn(1, 16, slices, 5, 5), torch.randn(1, 32, slices, 5, 5)
        found, wanted = (compute_gradient(conv, x, out, precision) for precision in ("bf16", "fp32"))
        assert (found - wanted).abs().max() <= 0.02 * wanted.abs().max()
        torch.full((10**5,), float("nan"))  # what the next allocation finds


def test_it_is_pytorchs_layer() -> None:
    torch.manual_seed(0)
    ours, theirs = Conv3d(2, 3, 3, stride=(1, 2, 2), padding=1), nn.Conv3d(2, 3, 3, stride=(1, 2, 2), padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, 2, 7, 6)
    assert torch.equal(ours(x), theirs(x))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours(x), theirs(x), atol=0.02, rtol=0.02)
