"""Ways to run a network that users have: each makes a function from an image to logits."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unetpp.runtime.cuda import CudaNetwork
from unetpp.runtime.device import CHANNELS_LAST
from unetpp.runtime.exported_file import openvino_core
from unetpp.runtime.openvino import OpenVinoNetwork, convert, replace_group_norms

Run = Callable[[Tensor], Tensor]


def eager(network: nn.Module, image: Tensor) -> Run:
    return _inferred(network)


def channels_last(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(network, image, _inferred)


def bf16(network: nn.Module, image: Tensor) -> Run:
    return _autocast(_inferred(network))


def bf16_channels_last(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(network, image, lambda moved: _autocast(_inferred(moved)))


def compiled(network: nn.Module, image: Tensor) -> Run:
    return _inferred(torch.compile(copy.deepcopy(network), dynamic=False))


def compiled_bf16(network: nn.Module, image: Tensor) -> Run:
    return _autocast(_inferred(torch.compile(copy.deepcopy(network), dynamic=False)))


def compiled_bf16_channels_last(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(network, image, lambda moved: _autocast(_inferred(torch.compile(moved, dynamic=False))))


def compiled_graphs(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(
        network, image, lambda moved: _autocast(_inferred(torch.compile(moved, dynamic=False, mode="reduce-overhead")))
    )


def cuda_bf16(network: nn.Module, image: Tensor) -> Run:
    """Run the network in the same way as `unetpp predict` on a GPU."""
    return CudaNetwork(network, "bf16")  # type: ignore[arg-type, return-value]


def openvino_fp32(network: nn.Module, image: Tensor) -> Run:
    return OpenVinoNetwork(_Plain(network), "fp32")  # type: ignore[arg-type, return-value]


def openvino_bf16(network: nn.Module, image: Tensor) -> Run:
    return OpenVinoNetwork(_Plain(network), "bf16")  # type: ignore[arg-type, return-value]


def openvino_int8(network: nn.Module, image: Tensor) -> Run:
    """Quantise after training, calibrated on the images themselves: to measure time, not accuracy."""
    import nncf

    model = nncf.quantize(
        convert(replace_group_norms(network), image.shape[1:]),
        nncf.Dataset([each[None].numpy() for each in image]),
        subset_size=len(image),
    )
    compiled = openvino_core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    )
    return lambda images: torch.from_numpy(compiled(images.contiguous().numpy())[0])


class _Plain(nn.Module):
    """Wrap any network, to accept the arguments of ours."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor:
        return self.network(x)


SETTINGS: dict[str, Callable[[nn.Module, Tensor], Run]] = {
    "eager fp32": eager,
    "fp32, channels last": channels_last,
    "bf16": bf16,
    "bf16, channels last": bf16_channels_last,
    "compiled fp32": compiled,
    "compiled bf16": compiled_bf16,
    "compiled bf16, channels last": compiled_bf16_channels_last,
    "compiled bf16, channels last, CUDA graphs": compiled_graphs,
    "CUDA bf16": cuda_bf16,
    "OpenVINO fp32": openvino_fp32,
    "OpenVINO bf16": openvino_bf16,
    "OpenVINO int8": openvino_int8,
}
CPU_ALONE = OURS_ALONE = ("OpenVINO fp32", "OpenVINO bf16", "OpenVINO int8")
"""Settings that no peer offers: its networks are timed in them too, but its users do not have them."""
CUDA_ALONE = ("compiled bf16, channels last, CUDA graphs", "CUDA bf16")
NO_PEER = ("CUDA bf16",)
"""Settings in which only our network runs."""


def _inferred(network: nn.Module) -> Run:
    @torch.inference_mode()
    def run(image: Tensor) -> Tensor:
        return network(image)

    return run


def _autocast(inner: Run) -> Run:
    def run(image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16):
            return inner(image)

    return run


def _laid_out(network: nn.Module, image: Tensor, make: Callable[[nn.Module], Run]) -> Run:
    layout = CHANNELS_LAST[image.ndim]
    inner = make(copy.deepcopy(network).to(memory_format=layout))
    return lambda images: inner(images.contiguous(memory_format=layout))
