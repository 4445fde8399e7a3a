"""Ways to run a network that a user has: each makes a function from an image to logits."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def eager(network: nn.Module, image: Tensor) -> Run:
    return _inferred(network)


def channels_last(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(network, image, _inferred)


def bf16(network: nn.Module, image: Tensor) -> Run:
    return _autocast(_inferred(network))


def bf16_channels_last(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(network, image, lambda moved: _autocast(_inferred(moved)))


def compiled(network: nn.Module, image: Tensor) -> Run:
    return _inferred(torch.compile(copy.deepcopy(network)))


def compiled_bf16(network: nn.Module, image: Tensor) -> Run:
    return _autocast(_inferred(torch.compile(copy.deepcopy(network))))


def compiled_bf16_channels_last(network: nn.Module, image: Tensor) -> Run:
    return _laid_out(network, image, lambda moved: _autocast(_inferred(torch.compile(moved))))


SETTINGS: dict[str, Callable[[nn.Module, Tensor], Run]] = {
    "eager fp32": eager,
    "fp32, channels last": channels_last,
    "bf16": bf16,
    "bf16, channels last": bf16_channels_last,
    "compiled fp32": compiled,
    "compiled bf16": compiled_bf16,
    "compiled bf16, channels last": compiled_bf16_channels_last,
}


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
    layout = LAYOUTS[image.ndim]
    inner = make(copy.deepcopy(network).to(memory_format=layout))
    return lambda images: inner(images.contiguous(memory_format=layout))
