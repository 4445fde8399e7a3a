"""What makes a trained network fast on a CUDA device, without a compiler: norms inside of convolutions, one kernel where torch has three, and one launch for all of them."""

from __future__ import annotations

import copy
import functools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from unetpp.model.blocks import CONVOLVE, BatchNorm, ConvUnit, GroupNorm, Parts, joined
from unetpp.model.encoders import Encoder
from unetpp.model.network import Growth, HeadOutputs, UNetPlusPlus, concatenate_parts, in_order
from unetpp.runtime.device import CHANNELS_LAST, DTYPES, has_fast_bf16

CAPTURE_AFTER = 8
"""Passes of one kind before it is recorded: a recording takes as long as some of them."""
WARM_UPS = 3
"""Passes of a recording in which libraries choose their kernels."""
_ONE_PASS = threading.Lock()
"""Held from the copy of an image into a graph to the copy of its result, because all graphs share their memory."""


class CudaNetwork:
    """Answers as the network that it is made from does in evaluation mode, without gradients.

    Each kind of pass (a depth, or all heads up to one, at one size of image) is recorded as a CUDA graph once it has come
    often, and replayed from then on. Threads may share it: those of one process pass one after the other.

    Args:
        network: on a CUDA device.
        precision: fp32, fp16, or bf16 where the hardware gains from it.
    """

    def __init__(self, network: UNetPlusPlus, precision: str) -> None:
        device = next(network.parameters()).device
        self._dtype = (
            torch.float32 if precision == "bf16" and not has_fast_bf16(device) else DTYPES.get(precision, torch.float32)
        )
        with torch.cuda.device(device):
            self._network = fuse_operations(network, self._dtype)
        self._passes: Counter[Any] = Counter()
        self._recorded: dict[Any, _Recorded] = {}
        self._full = False
        """Whether there is no memory for another graph."""

    def grow(self, x: Tensor) -> Growth:
        """A forward pass in steps. (Kernels of Triton start on the current device: make it that of `x`.)"""
        return self._network.grow(self._placed(x))

    @torch.inference_mode()
    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        key = (depth, heads, x.shape)
        with _ONE_PASS, torch.cuda.device_of(x):
            self._passes[key] += 1
            if self._passes[key] > CAPTURE_AFTER and key not in self._recorded and not self._full:
                try:
                    self._recorded[key] = _Recorded(lambda image: self._run(image, depth, heads), self._placed(x))
                except torch.OutOfMemoryError:
                    self._full = True
            if key in self._recorded:
                return self._recorded[key].replayed(x)
            return self._run(self._placed(x), depth, heads)

    def _run(self, x: Tensor, depth: int | None, heads: bool) -> Tensor | HeadOutputs:
        with torch.autocast("cuda", enabled=False):
            return self._network(x, depth=depth, heads=heads)

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self._dtype, memory_format=CHANNELS_LAST[x.ndim])


class _Recorded:
    """A CUDA graph of one kind of pass. (All graphs of a process work in the same memory, one after the other.)"""

    def __init__(self, run: Callable[[Tensor], Tensor | HeadOutputs], image: Tensor) -> None:
        self._image = image.clone(memory_format=torch.preserve_format)
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    run(self._image)
            with torch.cuda.graph(self._graph, pool=_graph_memory(), stream=stream, capture_error_mode="thread_local"):
                self._found = run(self._image)

    def replayed(self, image: Tensor) -> Tensor | HeadOutputs:
        self._image.copy_(image)
        self._graph.replay()
        if isinstance(self._found, HeadOutputs):
            return HeadOutputs(self._found.depths, tuple(logits.clone() for logits in self._found.logits))
        return self._found.clone()


@functools.cache
def _graph_memory() -> Any:
    return torch.cuda.graph_pool_handle()


def fuse_operations(network: UNetPlusPlus, dtype: torch.dtype) -> UNetPlusPlus:
    """A copy that answers the same in less time: batch normalisations lie in the weights of convolutions, other ones take their activation with them."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    weight = next(weight for weight in copied.parameters() if weight.ndim > 3)
    kernels = has_kernels(weight.device)
    if copied.encoder is not None:
        _fold_traced(copied.encoder, copied.depth)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvUnit):
                setattr(module, name, _Unit(child, kernels))
    if kernels:
        copied.concatenate = concatenate_in_place
    return copied.to(dtype).to(memory_format=CHANNELS_LAST[weight.ndim])


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Whether Triton is there and works: it wants a C compiler too."""
    if device.type != "cuda":
        return False
    try:
        from unetpp.runtime.kernels import rectified

        rectified(torch.zeros(1, 16, 1, 1, device=device), torch.zeros(16, device=device), 0.0)
    except Exception:  # of any kind
        return False
    return True


def concatenate_in_place(up: nn.Module, below: Tensor, skips: Sequence[Tensor], order: str, frugal: bool) -> Parts:
    """Enlarge what comes from the level below into the place where it is concatenated; see `network.concatenate_parts`."""
    if not skips:
        return concatenate_parts(up, below, skips, order, frugal)
    from unetpp.runtime.kernels import Part, concatenated

    parts = in_order([Part(each, each.shape[1]) for each in skips], _part(up, below), order)
    return concatenated(parts, skips[0].shape[2:])


def _part(up: nn.Module, below: Tensor) -> Any:
    """What `up` makes of `below`, if it can be left to the concatenation in part."""
    from unetpp.runtime.kernels import Part

    if isinstance(up, nn.Sequential):
        for module in list(up)[:-1]:
            below = module(below)
        up = up[-1]
    if isinstance(up, nn.Upsample) and up.mode in ("nearest", "bilinear", "trilinear"):
        mode = "nearest" if up.mode == "nearest" else "corners" if up.align_corners else "centres"
        return Part(below, below.shape[1], _factors(up, below.ndim - 2), mode)
    if isinstance(up, (nn.ConvTranspose2d, nn.ConvTranspose3d)) and up.stride == up.kernel_size and not any(up.padding):
        rows = below.movedim(1, -1).reshape(-1, below.shape[1])
        # (in, out, *factors) -> (in, factors in row order, out)
        weight = up.weight.flatten(2).movedim(1, -1).flatten(1)
        found = (
            rows @ weight
            if up.bias is None
            else torch.addmm(up.bias.repeat(weight.shape[1] // len(up.bias)), rows, weight)
        )
        channels = up.weight.shape[1]
        return Part(
            found.reshape(len(below), *below.shape[2:], -1).movedim(-1, 1), channels, tuple(up.stride), "shuffled"
        )
    larger = up(below)
    return Part(larger, larger.shape[1])


def _factors(up: nn.Upsample, dims: int) -> tuple[int, ...]:
    factors: Any = up.scale_factor
    return tuple(int(factor) for factor in (factors if isinstance(factors, tuple) else (factors,) * dims))


class _Unit(nn.Module):
    """A ConvUnit in evaluation mode, in as few passes over memory as there can be."""

    def __init__(self, unit: ConvUnit, kernels: bool) -> None:
        super().__init__()
        self.conv: Any = unit.conv
        self.norm, self.activation = unit.norm, unit.activation
        self.kernels = kernels
        if isinstance(self.norm, BatchNorm):
            _fold(self.conv, self.norm.norm)
            self.norm = nn.Identity()
        self.slope = _slope(self.activation)

    def forward(self, parts: Parts) -> Tensor:
        x, conv, norm = joined(parts), self.conv, self.norm
        if isinstance(norm, nn.Identity) and self.slope == 0:
            return _rectified(conv, x)
        if self.kernels and self.slope is not None and isinstance(norm, GroupNorm):
            from unetpp.runtime.kernels import normalised

            return normalised(
                _without_bias(conv, x),
                norm.groups or conv.out_channels,
                norm.weight,
                norm.bias,
                norm.eps,
                self.slope,
                conv.bias,
            )
        if self.kernels and self.slope is not None and isinstance(norm, nn.Identity) and conv.bias is not None:
            from unetpp.runtime.kernels import rectified

            return rectified(_without_bias(conv, x), conv.bias, self.slope)
        return cast(Tensor, self.activation(norm(conv(x))))


def _slope(activation: nn.Module) -> float | None:
    """Of a leaky ReLU below 0, of which ReLU and nothing are two; None of others."""
    if isinstance(activation, nn.Identity):
        return 1.0
    if isinstance(activation, nn.ReLU):
        return 0.0
    return float(activation.negative_slope) if isinstance(activation, nn.LeakyReLU) else None


def _without_bias(conv: Any, x: Tensor) -> Tensor:
    """(torch adds the bias of a convolution in a pass of its own on a GPU.)"""
    return CONVOLVE[x.ndim - 2](x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


def _rectified(conv: Any, x: Tensor) -> Tensor:
    """Convolution, bias and ReLU: one kernel of cuDNN."""
    if x.is_cuda and conv.bias is not None and x.dtype != torch.float32:
        return torch.cudnn_convolution_relu(
            x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
    return functional.relu(conv(x))


def _fold(conv: Any, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)


class _ConvReLU(nn.Module):
    """A convolution of an encoder and the activation behind it."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return _rectified(self.conv, x)


def _fold_traced(encoder: Encoder, depth: int) -> None:
    """Batch normalisations into the convolutions that they follow, and ReLUs behind them, as one forward pass shows it."""
    body = encoder.body
    names = {module: name for name, module in body.named_modules()}
    given: dict[int, tuple[Tensor, int, nn.Module, nn.Module | None]] = {}
    """Of a tensor: itself, its version, the convolution that it is of, and the norm behind that."""
    folded: dict[nn.Module, nn.Module] = {}
    rectified: dict[nn.Module, nn.Module] = {}

    def known(x: Tensor) -> tuple[nn.Module, nn.Module | None] | None:
        tensor, version, *modules = given.get(id(x), (None, -1, None, None))
        return (modules[0], modules[1]) if tensor is x and version == x._version and modules[0] is not None else None

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found = known(inputs[0])
        if found and found[1] is not None and isinstance(module, nn.ReLU):
            rectified[found[0]] = module

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found = known(inputs[0])
        if isinstance(module, nn.Conv2d):
            given[id(output)] = (output, output._version, module, None)
        elif isinstance(module, nn.BatchNorm2d) and found and found[1] is None:
            folded[found[0]] = module
            if type(module) is nn.BatchNorm2d:  # timm's has an activation of its own
                given[id(output)] = (output, output._version, found[0], module)

    hooks = [module.register_forward_pre_hook(before) for module in names] + [
        module.register_forward_hook(after) for module in names if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    weight = next(encoder.parameters())
    with torch.no_grad():
        encoder(torch.zeros(1, encoder.in_channels, 64, 64, device=weight.device, dtype=weight.dtype), depth)
    for hook in hooks:
        hook.remove()
    for conv, norm in folded.items():
        _fold(conv, norm)
        _replace(body, names[norm], cast(nn.Module, getattr(norm, "act", nn.Identity())))
        if conv in rectified:
            _replace(body, names[conv], _ConvReLU(conv))
            _replace(body, names[rectified[conv]], nn.Identity())


def _replace(body: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, module)
